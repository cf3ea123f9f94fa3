"""Records that cannot be used: each with its reason, and the words for many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_lit.errors import RecordError


@dataclass(frozen=True, kw_only=True)
class BadRecord:
    """A record that cannot be used.

    Args:
        index: which record of the data set it is, counted from 0.
        code: the reason in one stable word, for example `image.missing`.
        problem: what is wrong.
        remedy: what to do about it.
        file: the file that the record stands in.
        record: what messages call it there.
    """

    index: int
    code: str
    problem: str
    remedy: str
    file: str
    record: str | None

    @classmethod
    def of(cls, index: int, error: RecordError) -> BadRecord:
        """The record that an error is about."""
        return cls(
            index=index,
            code=error.code,
            problem=error.problem,
            remedy=error.remedy,
            file=str(error.file),
            record=error.record,
        )

    @property
    def error(self) -> RecordError:
        """What using it would raise."""
        return RecordError(self.problem, remedy=self.remedy, file=self.file, record=self.record, code=self.code)


def of_each_kind(bad: Sequence[BadRecord]) -> dict[str, list[BadRecord]]:
    """The records by their reason; the most frequent reason first."""
    kinds: dict[str, list[BadRecord]] = {}
    for one in bad:
        kinds.setdefault(one.code, []).append(one)
    return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))


def firsts(bad: Sequence[BadRecord], source: str) -> str:
    """Each kind with its count and its first record: `image.missing (10), the first: record 3: ... .`.

    The remedy is told where there is one kind; a paragraph of several would not be read.

    Args:
        bad: the records.
        source: the file that need not be named.
    """
    kinds = of_each_kind(bad)
    told = [f"{code} ({len(found):,}), the first: {_place(found[0], source)}" for code, found in kinds.items()]
    return " ".join([*(f"{words}." for words in told), *([bad[0].remedy] if len(kinds) == 1 else [])])


def _place(one: BadRecord, source: str) -> str:
    file = "" if one.file == source else f"{one.file}, "
    where = f"record {one.record}" if one.record is not None else f"the record at {one.index}"
    return f"{file}{where}: {one.problem.rstrip('.')}"
