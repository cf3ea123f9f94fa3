"""Equalities 5 and 10 for `verify`: a step shared by two processes against one that computes all of it.

What each process computes is written here, and what is made of it; the processes are started by the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from lightning import LightningModule
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from vlm_lit.data.rank_share import RankShare
from vlm_lit.errors import ConfigError
from vlm_lit.models.sharding import check_splittable, split_frozen
from vlm_lit.preflight.equality import Equality, Verdict, Way, compared, trained
from vlm_lit.preflight.held_model import held_model
from vlm_lit.schema import StepBatch
from vlm_lit.training.frozen_sharded import FrozenShardedStrategy
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.protocols import Trains
from vlm_lit.training.ranks import FrozenShardedRanks, Ranks, ReplicatedRanks

WORLD: Final = 2
CLAIMS: Final = {
    "sharded": "two ranks on a step = one",
    "frozen-sharded": "a frozen base split over two ranks = a whole one",
}
"""Equalities 5 and 10 of the design, in the order in which the processes measure them."""


class Measures(Protocol):
    """What measures the equalities of a kind of data."""

    @property
    def items(self) -> Sequence[Any]:
        """What the equalities are computed on."""

    @property
    def module(self) -> LightningModule:
        """Has the model, its weights moved off their start."""

    @property
    def tolerance(self) -> float:
        """What sums in another order may differ by, relative to the largest value."""

    def step_of(self, items: Sequence[Any]) -> StepBatch[Any]:
        """Some of its items in micro-batches of one, on the module's device."""


class Shared:
    """What the ranks found together, in files that the first of them writes.

    Args:
        folder: where; the trained weights to compute with are there as well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep_weights(self, module: LightningModule) -> None:
        """Write down what is trained, from which every process computes."""
        torch.save({name: p.detach().cpu() for name, p in _named(module).items()}, self.folder / "weights.pt")

    def take_weights(self, module: LightningModule) -> None:
        """Put these weights into another process's module."""
        kept: dict[str, Tensor] = torch.load(self.folder / "weights.pt")
        with torch.no_grad():
            for name, parameter in _named(module).items():
                parameter.copy_(kept[name])

    def write(self, name: str, found: Way) -> None:
        """Keep what the ranks computed together."""
        torch.save({"loss": found.loss, "gradient": found.gradient.cpu()}, self.folder / f"{name}.pt")

    def write_refusal(self, name: str, reason: str) -> None:
        """Keep why one cannot be computed."""
        (self.folder / f"{name}.txt").write_text(reason, encoding="utf-8")

    def equality(self, name: str, alone: Way, tolerance: float, count: int) -> Equality | None:
        """What an equality has come to; None where the processes did not get there."""
        refusal, file = self.folder / f"{name}.txt", self.folder / f"{name}.pt"
        if refusal.is_file():
            return not_checked(name, refusal.read_text(encoding="utf-8"))
        if not file.is_file():
            return None
        kept = torch.load(file)
        found = Way(loss=kept["loss"], gradient=kept["gradient"].to(alone.gradient.device))
        return compared(name, CLAIMS[name], f"{count} items, {WORLD} processes", found, alone, tolerance)


def not_checked(name: str, reason: str, verdict: Verdict = "refused") -> Equality:
    """An equality that was not measured, with the reason."""
    return Equality(name=name, claim=CLAIMS[name], verdict=verdict, note=f"not checked: {reason}")


def measure_together(measures: Measures, shared: Shared, share: RankShare) -> None:
    """Compute this process's share of a step, for each equality; the others do so at the same time."""
    module = measures.module
    shared.take_weights(module)
    mine = measures.step_of(list(measures.items)[share.rank :: share.world])
    ranks: Ranks = ReplicatedRanks(share, module.device)
    for name in CLAIMS:
        if name == "frozen-sharded":
            split = _split(module, share)
            if isinstance(split, str):
                shared.write_refusal(name, split)
                continue
            ranks = split
        found = _together(module, mine, ranks)
        if share.rank == 0:
            shared.write(name, found)
        ranks.wait()


def _split(module: LightningModule, share: RankShare) -> Ranks | str:
    """The ranks of a module whose base is split from here on; why it cannot be."""
    if not isinstance(module, VisionLanguageModule):
        return f"{type(module).__name__} does not split its base"
    held, strategy = held_model(module), FrozenShardedStrategy()
    try:
        check_splittable(module.parts)
        mesh = init_device_mesh(module.device.type, (share.world,))
        strategy.split = split_frozen(held.base, held.family, mesh)
    except ConfigError as error:
        return str(error)
    return FrozenShardedRanks(strategy, share, module.device)


def _together(module: LightningModule, mine: StepBatch[Any], ranks: Ranks) -> Way:
    assert isinstance(module, Trains)
    parameters = trained(module)
    for parameter in parameters:
        parameter.grad = None
    weight, summed = ranks.sum(mine.weight), 0.0
    for batch in mine.micro_batches:
        loss = module.loss(batch) / weight
        ranks.backward(loss)
        summed += float(loss.detach())
    ranks.sum_gradients(parameters)
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    return Way(loss=ranks.sum(summed), gradient=torch.cat([grad.double().flatten() for grad in grads]))


def _named(module: LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
