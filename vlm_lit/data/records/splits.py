"""Splits of local files: the files, and the rows of them, that `train` or `train[:90%]` means.

The hub cuts its own splits. Here the same words are understood for files, so that a data set of one file can be
divided by changing nothing but its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.errors import RecordError

_SPLITS: Final = ("train", "validation", "val", "valid", "dev", "test")
_BOUND: Final = r"(-?\d+%?)?"
_SPLIT: Final = re.compile(rf"([\w.-]+)(?:\[{_BOUND}:{_BOUND}\])?")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split's name, and the bounds of its slice as they were written."""

    name: str
    start: str | None = None
    stop: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of its rows are meant."""
        return self.start is None and self.stop is None

    def __str__(self) -> str:
        return self.name if self.is_whole else f"{self.name}[{self.start or ''}:{self.stop or ''}]"


def read_split(text: str) -> Split | None:
    """A name or a slice of one; None for what only the hub understands, such as `train+test`."""
    found = _SPLIT.fullmatch(text)
    if found is None or len({bound[-1] == "%" for bound in found.groups()[1:] if bound}) > 1:
        return None  # `datasets` takes both bounds of [1:3%] for percentages
    return Split(name=found[1], start=found[2], stop=found[3])


def rows_of(split: Split, n: int, source: str) -> range:
    """The rows a slice means in a split of `n`: percentages are rounded to whole rows, as `datasets` does.

    Raises:
        RecordError: no row between the bounds.
    """
    start = 0 if split.start is None else _row(split.start, n)
    stop = n if split.stop is None else _row(split.stop, n)
    if start >= stop and not split.is_whole:
        raise wrong_split(source, f"the split {str(split)!r} of {n} records holds none", "Widen the bounds.")
    return range(start, stop)


def _row(bound: str, n: int) -> int:
    count = round(int(bound[:-1]) * n / 100) if bound.endswith("%") else int(bound)
    return min(count, n) if count >= 0 else max(count + n, 0)


def files_of_split(files: Sequence[Path], folder: Path, split: str) -> Sequence[Path]:
    """The files whose name or folder says `split`; all of them where no file says any split.

    Raises:
        RecordError: files say splits, and none says this one.
    """
    words = {file: set(re.split(r"[-_./]", str(file.relative_to(folder)))) for file in files}
    chosen = [file for file in files if split in words[file]]
    there = {word for found in words.values() for word in found if word in _SPLITS}
    if not chosen and there:
        raise no_such_split(str(folder), split, sorted(there))
    return chosen or files


def no_such_split(source: str, split: str, there: Iterable[str]) -> RecordError:
    """The error for a split that is not among those `there`."""
    return wrong_split(source, f"no split {split!r}", f"There are: {', '.join(there)}.")


def wrong_split(source: str, problem: str, remedy: str) -> RecordError:
    """A `RecordError` about the setting `split`."""
    return RecordError(problem, remedy=remedy, file=source, code="records.split")
