"""Errors that a user is told of: a sentence each, with the place, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


class VlmLitError(ValueError):
    """A mistake in what the user gave us. Printed as one paragraph, without a traceback."""


class ConfigError(VlmLitError):
    """A setting that cannot work, named together with what to write instead."""


class RecordError(VlmLitError):
    """A record that cannot be used.

    Args:
        problem: what is wrong, in the user's words.
        remedy: what to do about it.
        file: the file the record comes from (a hub data set's name where there is no file).
        record: which record of it: its id, its index, or both.
        code: the reason in one stable word, for example `image.truncated`, so that reports can count by it.
    """

    def __init__(
        self, problem: str, *, remedy: str, file: Path | str, record: str | None = None, code: str = "record"
    ) -> None:
        where = f"{file}, record {record}" if record is not None else f"{file}"
        super().__init__(f"{where}: {problem}. {remedy}")
        self.problem, self.remedy, self.file, self.record, self.code = problem, remedy, file, record, code

    def __reduce__(self) -> tuple[Callable[..., RecordError], tuple[str]]:
        # An exception is rebuilt from its message alone; this one also has to cross from a worker process.
        rebuild = partial(type(self), remedy=self.remedy, file=self.file, record=self.record, code=self.code)
        return rebuild, (self.problem,)


def raised(found: Found | VlmLitError) -> Found:
    """`found`, unless it is what a worker found wrong: raised in there, it would reach the user as a page of traceback.

    Raises:
        VlmLitError: that one.
    """
    if isinstance(found, VlmLitError):
        raise found
    return found


_LARGEST_SEED = 2**32 - 1
"""That of NumPy, whose generator is seeded as well."""


def check_seed(seed: int, name: str) -> None:
    """Refuse a seed that not every generator takes.

    Raises:
        ConfigError: naming the setting.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError(f"{name} is {seed}; a seed is a whole number from 0 to {_LARGEST_SEED}.")


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that looks most like a mistyped one; None where none is close.

    Args:
        name: what the user wrote.
        known: what could have been meant.
        cutoff: the least likeness, 0..1, as `difflib.get_close_matches` counts it.
    """
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def printable(text: str, *, lines: bool = False) -> str:
    """Text of which what would steer a terminal is written out: data, file names and groups are somebody else's.

    Args:
        text: what is to be shown.
        lines: whether it may have several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    # A name on disk that is no UTF-8 holds half a surrogate pair, which a terminal cannot be sent either.
    return character.encode("unicode_escape").decode()
