"""Size of micro-batches: one number for the training process and its workers."""

from __future__ import annotations

import torch
from torch import Tensor


class MicroBatchSize:
    """How many rows a forward pass takes: a number that the training process may lower while workers read it."""

    def __init__(self, rows: int) -> None:
        self._rows: Tensor = torch.tensor([rows]).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def rows(self) -> int:
        """Most rows of one forward pass."""
        return int(self._rows)

    @rows.setter
    def rows(self, rows: int) -> None:
        self._rows[0] = rows
