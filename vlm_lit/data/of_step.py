"""A list of what a rank is given for one optimizer step: indices of items, and then these items themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

_Thing = TypeVar("_Thing")


class OfStep(list[_Thing]):
    """A list that knows its step, which is the same on all ranks: what is drawn for an item may follow from it.

    Args:
        things: what is in it.
        step: the optimizer step, counted from 0 at the run's beginning.
    """

    def __init__(self, things: Iterable[_Thing], step: int) -> None:
        super().__init__(things)
        self.step = step


def step_of(things: Sequence[object]) -> int:
    """The step of a list; 0 of one that knows none."""
    return things.step if isinstance(things, OfStep) else 0
