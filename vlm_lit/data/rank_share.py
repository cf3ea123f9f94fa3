"""Share of the data that one process takes of those that train together."""

from __future__ import annotations

from typing import NamedTuple

import lightning


class RankShare(NamedTuple):
    """Which of the shares it is, counted from 0, and how many there are."""

    rank: int
    world: int


def rank_share(trainer: lightning.Trainer) -> RankShare:
    """This process's share, as the trainer's strategy deals data: processes that split one model get the same one."""
    dealt = trainer.distributed_sampler_kwargs
    return RankShare(0, 1) if dealt is None else RankShare(int(dealt["rank"]), int(dealt["num_replicas"]))
