"""Report of an inspection of pairs: their sides as conversations, and how the two are learned and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from vlm_lit.preflight.inspection.report import Inspection


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """What pairs are, and how a step takes them.

    Args:
        total: how many there are; None for a stream.
        sharing: how many show pictures that another pair shows as well; None for a stream.
        apart: why the answers of a pair do not share a row; None where they do.
        shown, rows: how many pairs are shown, and the rows that the step on them had.
        chosen, rejected: supervised tokens of both answers of each measured pair.
        losses: the run's losses, in words; empty where the module does not say.
        compares: whether a loss compares with a reference; None where the module does not say.
        store: where the reference's log-probabilities are kept; None where it is asked in every step.
        stored: how many of the measured pairs are in it.
        corrupt: how pictures are corrupted; None where they are not.
    """

    total: int | None
    sharing: int | None
    apart: str | None
    shown: int
    rows: int
    chosen: Sequence[int]
    rejected: Sequence[int]
    losses: Sequence[str]
    compares: bool | None
    store: str | None
    stored: int
    corrupt: str | None

    def lines(self) -> Iterator[str]:
        """The facts, a line each."""
        if self.total is None:
            yield "a stream of pairs"
        else:
            yield f"{self.total:,} pairs, {self.sharing or 0:,} of which show a picture that another shows as well"
        where = "share a row" if self.apart is None else f"have a row each in one micro-batch ({self.apart})"
        yield f"the answers of a pair {where}; the {self.shown} pairs below take {self.rows} rows"
        if self.corrupt is not None:
            yield f"the chosen answer stands once more behind a corrupted picture ({self.corrupt}), in a row of its own"
        longer = sum(one > other for one, other in zip(self.chosen, self.rejected, strict=True))
        yield (
            f"supervised tokens, median: chosen {median(self.chosen):g}, rejected {median(self.rejected):g}; chosen is "
            f"the longer answer in {longer / len(self.chosen):.0%}"
        )
        if self.losses:
            yield f"losses: {' + '.join(self.losses)}"
        if self.compares is not None:
            yield f"reference: {self._reference()}"

    def _reference(self) -> str:
        if not self.compares:
            return "none is needed"
        if self.store is None:
            return "the start of the run, asked in every step (model.init_args.reference_store would keep it)"
        return f"kept in {self.store}; {self.stored} of {len(self.chosen)} measured pairs are there already"


@dataclass(frozen=True, kw_only=True)
class PairInspection(Inspection):
    """All that was found; the conversations are the pairs' sides, as `id/chosen`, `id/rejected`, `id/corrupted`."""

    items: ClassVar[str] = "pairs"

    pairs: PairFacts
