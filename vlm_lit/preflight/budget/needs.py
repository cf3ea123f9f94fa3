"""Needs of a recipe: memory by purpose and micro-batch, and disk; or why it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vlm_lit.models.stored_bytes import Holding, Purpose
from vlm_lit.preflight.budget.rank_memory import ALL, RankMemory
from vlm_lit.preflight.budget.recipes import Recipe
from vlm_lit.preflight.budget.step import BackboneBytes, OptimizerBytes

PURPOSES: Final[tuple[Purpose, ...]] = ("quantized", "constants", "frozen", "trained")


@dataclass(frozen=True, kw_only=True)
class StepNeeds:
    """What one recipe needs, in bytes.

    Args:
        recipe: the way to train.
        held: what its model holds, part by part.
        attention: the language model's attention implementation.
        optimizer: states, and what a step takes on top of them.
        backbone: a micro-batch, without a head that is measured apart, with activation checkpointing (True) and
            without (False).
        ranks: how a GPU of several differs from one that has all of the model.
    """

    recipe: Recipe
    held: list[Holding]
    attention: str
    optimizer: OptimizerBytes
    backbone: dict[bool, BackboneBytes]
    ranks: RankMemory = ALL

    def stored(self, purpose: Purpose) -> int:
        """Bytes held for one purpose."""
        return sum(holding.size for holding in self.held if holding.purpose == purpose)

    @property
    def gradients(self) -> int:
        """As many numbers as are trained, in the same precision."""
        return self.stored("trained")

    @property
    def resident(self) -> int:
        """What is there between two micro-batches."""
        return sum(map(self.stored, PURPOSES)) - self.ranks.elsewhere + self.gradients + self.optimizer.states

    def kept(self, rows: int, *, checkpointing: bool) -> int:
        """Activations between forward and backward pass."""
        return self.backbone[checkpointing].kept.at(rows)

    def peak(self, rows: int, *, checkpointing: bool) -> int:
        """The most that a step takes beside what is there anyway: in a pass, or in the optimizer."""
        return max(self.backbone[checkpointing].peak.at(rows) + self.ranks.gathered, self.optimizer.step)

    def total(self, rows: int, *, checkpointing: bool) -> int:
        """The most that a step holds at once."""
        return self.resident + self.peak(rows, checkpointing=checkpointing)

    @property
    def adapter(self) -> int:
        """Disk for `adapter/`."""
        return self.stored("trained")

    @property
    def checkpoint(self) -> int:
        """Disk for a checkpoint to resume from."""
        return self.stored("trained") + self.optimizer.states


@dataclass(frozen=True, kw_only=True)
class Needs(StepNeeds):
    """The same of a model that generates, whose head is measured apart.

    Args:
        head: the most that head and loss take, by rows.
        plain_head: the same of a head that runs on whole rows.
        least: the fewest rows of a micro-batch: those of a pair, which is never parted.
        reference: the most that a pass of the reference takes, by rows; None where there is none.
        copies: bytes that the reference keeps beside the model: where a run begins at an adapter, its trained weights.
    """

    head: Callable[[int], int]
    plain_head: Callable[[int], int]
    least: int = 1
    reference: Callable[[int], int] | None = None
    copies: int = 0

    @property
    def resident(self) -> int:
        """What is there between two micro-batches."""
        return super().resident + self.copies

    def kept(self, rows: int, *, checkpointing: bool) -> int:
        """Activations between forward and backward pass."""
        return super().kept(max(rows, self.least), checkpointing=checkpointing)

    def peak(self, rows: int, *, checkpointing: bool) -> int:
        """The most that a step takes beside what is there anyway: in a pass, in the head, or in the optimizer."""
        rows = max(rows, self.least)
        kept = self.backbone[checkpointing].kept.at(rows)
        before = 0 if self.reference is None else self.reference(rows) + self.ranks.gathered
        return max(super().peak(rows, checkpointing=checkpointing), kept + self.head(rows), before)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A recipe that `fit` would refuse for this model, and why."""

    recipe: Recipe
    reason: str
