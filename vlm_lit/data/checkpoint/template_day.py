"""The day that a chat template is told which asks for it: today, or a fixed one where prompts must stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Final

_DAY: Final[ContextVar[datetime | None]] = ContextVar("day", default=None)


@contextmanager
def templates_on(day: datetime) -> Iterator[None]:
    """Let what is rendered within be told this day, its first minute."""
    before = _DAY.set(day)
    try:
        yield
    finally:
        _DAY.reset(before)


def dated(now: Callable[[str], str]) -> Callable[[str], str]:
    """A template's `strftime_now` that tells the day of `templates_on`; transformers takes no function as a variable.

    Args:
        now: the function that tells today.
    """

    @wraps(now)
    def told(format: str) -> str:  # templates may name it
        day = _DAY.get()
        return now(format) if day is None else day.strftime(format)

    return told
