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

_MEANS: Final = re.compile(
    r"(?:(?P<train>train)|(?P<val>val|valid|validation|dev|minival)|(?P<test>test(?:dev|std)?)|(?P<eval>eval|evaluation))"
    r"(?:ing|sets?|split|data|files?)?"
)
_BEGINS: Final = re.compile("train|test|valid|eval")  # `val` and `dev` begin values and devices
_WORD: Final = re.compile(r"[^\W\d_]+")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
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


def split_of_word(word: str) -> str | None:
    """`train`, `val`, `test` or `eval` for a word that means it, such as `Training` or `valset`; None for any other."""
    found = _MEANS.fullmatch(word.strip().casefold())
    return found.lastgroup if found is not None else None


def words_of_name(name: str) -> list[str]:
    """The words of a file's name or path, in small letters: `my`, `train` and `json` of `my train2014.json`."""
    return [word.casefold() for word in _WORD.findall(_HUMP.sub(" ", name))]


def files_of_split(files: Sequence[Path], folder: Path, split: str) -> Sequence[Path]:
    """The files whose name or folder says `split`; all of them where no file says any split.

    A name that has `split` between marks (`train-a`) says it, else one that has it between digits and blanks too
    (`train2014`), else one with a word that means the same (`training`, `trainset`). `train_set/test.json` is a test.

    Raises:
        RecordError: files say splits, and none says this one; or names of some files begin as a split's does.
    """
    asked, meant = split.casefold(), split_of_word(split)
    names = [str(file.relative_to(folder)) for file in files]
    saying = [name if meant is None else _saying(Path(name)) for name in names]
    marked = [re.split(r"[-_./]", name.casefold()) for name in saying]
    words = [words_of_name(name) for name in saying]
    same = [[word for word in found if meant is not None and split_of_word(word) == meant] for found in words]
    for says in ([asked in found for found in marked], [asked in found for found in words], _if_alike(same)):
        if any(says):
            return [file for file, said in zip(files, says, strict=True) if said]
    if there := sorted({word for found in words for word in found if split_of_word(word) is not None}):
        raise no_such_split(str(folder), split, there)
    _refuse_unclear(names, words, folder, split)
    return files


def _saying(path: Path) -> str:
    """The part of a path that says its split, the file's name before its folders; the whole path where none does."""
    return next((part for part in reversed(path.parts) if any(map(split_of_word, words_of_name(part)))), str(path))


def _if_alike(said: Sequence[Sequence[str]]) -> list[bool]:
    """Which files say a word; none where they say different ones: `dev` and `valid` may be two splits."""
    return [bool(words) and len({tuple(found) for found in said if found}) == 1 for words in said]


def _refuse_unclear(names: Sequence[str], words: Sequence[Sequence[str]], folder: Path, split: str) -> None:
    """Refuse names of which some begin with a split's word and go on otherwise: `testqa` beside `trainqa`."""
    begins = [next((found[0] for word in words_ if (found := _BEGINS.match(word))), None) for words_ in words]
    if len(set(begins)) > 1:
        unclear = ", ".join(name for name, begin in zip(names, begins, strict=True) if begin is not None)[:200]
        remedy = "Name the file itself, or a list of the files that are meant."
        raise wrong_split(str(folder), f"it is not clear which files are the split {split!r}, by {unclear}", remedy)


def no_such_split(source: str, split: str, there: Iterable[str]) -> RecordError:
    """The error for a split that is not among those `there`."""
    return wrong_split(source, f"no split {split!r}", f"There are: {', '.join(there)}.")


def wrong_split(source: str, problem: str, remedy: str) -> RecordError:
    """A `RecordError` about the setting `split`."""
    return RecordError(problem, remedy=remedy, file=source, code="records.split")
