"""Modules that are wrong on several ranks and right on one, for `verify` to find."""

from __future__ import annotations

import os

from torch import Tensor

from vlm_lit.schema import TokenBatch
from vlm_lit.training.supervised import SupervisedModule


class Heavier(SupervisedModule):
    """Its loss counts more on rank 1, as that of a rank which divides by its own number of tokens would."""

    def loss(self, batch: TokenBatch) -> Tensor:
        """The loss of a micro-batch (a scalar)."""
        return super().loss(batch) * (1.0 + 0.01 * int(os.environ.get("RANK", "0")))


class Fallen(SupervisedModule):
    """It fails on rank 1."""

    def loss(self, batch: TokenBatch) -> Tensor:
        """The loss of a micro-batch (a scalar)."""
        if os.environ.get("RANK") == "1":
            raise RuntimeError("rank 1 cannot go on")
        return super().loss(batch)
