"""Memory of a run on several GPUs: what each of them holds of the model, by strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor, nn

from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.sharding import check_splittable, layers_to_split

Strategy = Literal["ddp", "frozen_sharded"]


@dataclass(frozen=True, kw_only=True)
class RankPlan:
    """How many GPUs a run has, and what each holds of the model.

    Args:
        strategy: `ddp` holds all of it on each; `frozen_sharded` splits what is frozen of the decoder layers.
        world: how many GPUs, over all machines.
    """

    strategy: Strategy = "ddp"
    world: int = 1

    def check(self, parts: PartsSettings) -> None:
        """Refuse a recipe that cannot be had on these GPUs.

        Raises:
            ConfigError: nothing of it can be split.
        """
        if self.strategy == "frozen_sharded":
            check_splittable(parts)

    def memory(self, base: nn.Module, family: Family) -> RankMemory:
        """What a GPU of several holds less, and more, than one alone would."""
        if self.strategy == "ddp":
            return ALL
        layers = [[p for p in layer.parameters() if not p.requires_grad] for layer in layers_to_split(base, family)]
        return RankMemory(
            elsewhere=sum(p.nbytes - _share(p, self.world) for layer in layers for p in layer),
            gathered=2 * max((sum(p.nbytes for p in layer) for layer in layers), default=0),
        )


@dataclass(frozen=True, kw_only=True)
class RankMemory:
    """How one GPU's memory differs from that of a GPU that has all of the model, in bytes.

    Args:
        elsewhere: frozen weights that the other GPUs hold in its place.
        gathered: what the largest decoder layer takes while it is put together: as it comes in, and as it is used.
    """

    elsewhere: int = 0
    gathered: int = 0


ALONE: Final = RankPlan()
"""One GPU."""

ALL: Final = RankMemory()
"""A GPU that holds all of the model."""


def _share(tensor: Tensor, world: int) -> int:
    """Bytes of a tensor [R, ...] on the rank that has most of it: a share of its R rows, rounded up."""
    rows = tensor.shape[0] if tensor.dim() else 1
    return -(-rows // world) * (tensor.nbytes // max(1, rows))
