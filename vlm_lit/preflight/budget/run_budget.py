"""Budget of a run as far as every kind of run has it: what each way to train needs."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vlm_lit.preflight.budget.needs import Refused, StepNeeds
from vlm_lit.preflight.budget.rank_memory import ALONE, RankPlan


@dataclass(frozen=True, kw_only=True)
class RunBudget:
    """What is known of a run ahead.

    Args:
        model_id, model_type: the checkpoint and its architecture.
        precision: the trainer's.
        checkpointing: whether the run recomputes activations.
        recipes: what each way to train needs, or why it cannot be had.
        plan: how many GPUs there are, and what each holds.
    """

    model_id: str
    model_type: str
    precision: str
    checkpointing: bool
    recipes: Sequence[StepNeeds | Refused]
    plan: RankPlan = ALONE

    @property
    def needs(self) -> Sequence[StepNeeds]:
        """The recipes that can be had."""
        return [recipe for recipe in self.recipes if isinstance(recipe, StepNeeds)]

    @property
    def refused(self) -> list[Refused]:
        """The recipes that cannot."""
        return [recipe for recipe in self.recipes if isinstance(recipe, Refused)]


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for garbage among the millions of small objects of a pass; tensors are freed without it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
