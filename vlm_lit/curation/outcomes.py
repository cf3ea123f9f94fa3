"""Outcomes of a curation's rows: each is kept, merged into a kept one, or rejected for a reason, and none is two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vlm_lit.curation.candidates import Candidate
from vlm_lit.curation.source_rows import SourceRow


@dataclass(frozen=True, kw_only=True)
class KeptRow:
    """A row that is written, under this id, to this split."""

    candidate: Candidate
    split: str
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class MergedRow:
    """A row that says what an earlier one says of the same picture; `into` is that row's place among all rows."""

    candidate: Candidate
    into: int


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """A row that cannot be used, and why. `pictures` are those of its pictures that were found."""

    row: SourceRow
    code: str
    problem: str
    remedy: str
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Kept rows that answer one question about one picture differently: their places among all rows."""

    question: str
    answers: dict[str, int]
    rows: tuple[int, ...]


@dataclass(kw_only=True)
class RowLedger:
    """All rows' outcomes, in the order of reading."""

    outcomes: list[KeptRow | MergedRow | RejectedRow] = field(default_factory=list)
    read: int = 0

    def count(self) -> tuple[int, int, Counter[str]]:
        """Rows kept, rows merged, and rows rejected by reason.

        Raises:
            RuntimeError: a row has no outcome, or more than one.
        """
        kept = sum(isinstance(outcome, KeptRow) for outcome in self.outcomes)
        merged = sum(isinstance(outcome, MergedRow) for outcome in self.outcomes)
        rejected = Counter(outcome.code for outcome in self.outcomes if isinstance(outcome, RejectedRow))
        check_sum(self.read, kept, merged, rejected)
        return kept, merged, rejected

    @property
    def rejected(self) -> Sequence[RejectedRow]:
        """The rows that cannot be used."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, RejectedRow)]


def check_sum(read: int, kept: int, merged: int, rejected: Counter[str]) -> None:
    """Refuse a curation that has lost a row.

    Raises:
        RuntimeError: read is not kept + merged + rejected.
    """
    if read != kept + merged + rejected.total():
        raise RuntimeError(
            f"{read:,} rows were read, and {kept:,} kept, {merged:,} merged and {rejected.total():,} rejected: "
            "a row was lost. This is a mistake of the program; please report it."
        )
