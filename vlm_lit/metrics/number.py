"""Numbers read off pictures: how far an answer's number is from the true one.

For counting, gauges and distances, where an answer may be nearly right, which exact match does not see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.numerals import Quantity, quantities
from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references, ratio

Several = Literal["unparsed", "first", "last"]
Others = Literal["refuse", "leave_out"]
"""What becomes of a question whose true answer is of another kind than the metric's."""

_ROUNDING: Final = 1e-9
_NOTHING: Final = 1e-12


def is_near(said: float, truth: float, tolerance: float) -> bool:
    """Whether a number is within a tolerance of the true one, up to the rounding of conversions."""
    return abs(said - truth) <= tolerance + max(_NOTHING, _ROUNDING * max(abs(said), abs(truth)))


def said_number(text: str, several: Several = "unparsed") -> Quantity | None:
    """The number that an answer gives, by `numerals.quantities`; None where it gives none, or several different ones.

    Args:
        text: the answer.
        several: which of several different numbers is meant: none of them, the first, or the last.
    """
    found = quantities(text)
    if not found or (several == "unparsed" and len({(q.value, q.unit) for q in found}) > 1):
        return None
    return found[-1 if several == "last" else 0]


@dataclass(frozen=True)
class NumberAccuracy(Rule):
    """Share of answers whose number is near enough to the true one, and how far off they are.

    A number is near enough within `absolute` of the truth or within `relative` of it as a share, whichever is wider.
    Units are converted where answer and truth have one each; of two that measure different things the answer is wrong.
    `overall` is the share of near ones among all answers, and `answered` of those that give one number. Over these
    `mean_absolute_error`, `bias` (the mean of answer minus truth) and `root_mean_square_error` in the truth's unit,
    and `mean_relative_error` as a share, over truths other than 0; all 0 where there is no such answer. Of several
    references the first is the truth.

    README.md has worked examples.

    Args:
        absolute: how far a number may be off, in the truth's unit.
        relative: how far it may be off as a share of the truth.
        several: see `said_number`.
        others: what becomes of a question whose true answer is no number, or more than one.

    Raises:
        ConfigError: a tolerance is negative or not finite.
    """

    title: ClassVar[str] = "number"
    columns: ClassVar[int] = 8
    compares_details: ClassVar[bool] = True
    in_units: ClassVar[frozenset[str]] = frozenset({"mean_absolute_error", "bias", "root_mean_square_error"})

    absolute: float = 0.0
    relative: float = 0.0
    several: Several = "unparsed"
    others: Others = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, value in (("absolute", self.absolute), ("relative", self.relative)):
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"number: {option} is {value}; it must be 0 or more.")

    def counts(self, answer: Answer) -> Counts | None:
        """Near, answered, unanswered, error, its size, its square, its size as a share, and whether it has that."""
        if self._is_left_out(answer):
            return None
        error, truth = self.error(answer), _truth(answer.references).value
        if error is None:
            return (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        share = abs(error / truth) if truth else 0.0
        return (float(self._is_near(error, truth)), 1.0, 0.0, error, abs(error), error**2, share, float(truth != 0))

    def error(self, answer: Answer) -> float | None:
        """The answer's number minus the true one, in the truth's unit; None where there is none to compare."""
        if self._is_left_out(answer):
            return None
        truth, said = _truth(answer.references), said_number(answer.prediction, self.several)
        value = None if said is None else said.in_unit_of(truth)
        return None if value is None else value - truth.value

    def truth(self, answer: Answer) -> float:
        """The true number, in its own unit."""
        return _truth(answer.references).value

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The share of near answers as `overall`, then the errors."""
        near, answered, _, error, size, square, share, shares = sums
        return {
            "overall": near / n,
            "answered": answered / n,
            "mean_absolute_error": ratio(size, answered),
            "root_mean_square_error": math.sqrt(ratio(square, answered)),
            "bias": ratio(error, answered),
            "mean_relative_error": ratio(share, shares),
        }

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many answers give no one number, or one of another kind of unit."""
        return round(sums[2])

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Both as plain numbers, in the truth's unit, a near one as the truth; an answer without one as it is."""
        truth, error = _truth(answer.references).value, self.error(answer)
        if error is None:
            return answer.prediction, [_spelled(truth)]
        return _spelled(truth if self._is_near(error, truth) else truth + error), [_spelled(truth)]

    def _is_near(self, error: float, truth: float) -> bool:
        return is_near(truth + error, truth, max(self.absolute, self.relative * abs(truth)))

    def _is_left_out(self, answer: Answer) -> bool:
        references = answer.references
        return self.others == "leave_out" and bool(references) and said_number(references[0]) is None


def _truth(references: Sequence[str]) -> Quantity:
    need_references("number", references)
    truth = said_number(references[0])
    if truth is None:
        raise VlmLitError(
            f"number needs a reference that gives one number, got {references[0]!r}. Correct it, or set the option "
            "others: leave_out."
        )
    return truth


def _spelled(value: float) -> str:
    return f"{value:.10g}"
