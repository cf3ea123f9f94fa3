"""Expected calibration error, and the bins behind it.

Source of the definition: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equations 2,
3 and 5: fifteen bins ((m - 1) / 15, m / 15] of equal width. torchmetrics' `binary_calibration_error` gives a confidence
of exactly 1 a bin of its own (1.9), which a model that is sure often reaches, and keeps its bins to itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vlm_lit.errors import VlmLitError

BINS: Final = 15


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The items whose confidence lies above `low` and not above `high`; a confidence of 0 is in the first bin.

    `confidence` and `score` are their means, fractions in [0, 1]; None where there are no items. Where a metric knows
    nothing between right and wrong, `score` is the accuracy of the definition.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    score: float | None

    @property
    def gap(self) -> float:
        """How far the mean score is from the mean confidence; 0 without items."""
        return 0.0 if self.score is None or self.confidence is None else abs(self.score - self.confidence)


def reliability(judged: Iterable[tuple[float, float]], bins: int = BINS) -> list[Bin]:
    """Sorts items into bins of equal width.

    Args:
        judged: each item's confidence and score, fractions in [0, 1].
        bins: how many there are.

    Raises:
        VlmLitError: a confidence is no probability.
    """
    edges = [m / bins for m in range(1, bins + 1)]
    members: list[list[tuple[float, float]]] = [[] for _ in edges]
    for confidence, score in judged:
        if not 0 <= confidence <= 1:
            raise VlmLitError(f"A confidence of {confidence} is no probability. Look at what the model answers with.")
        members[bisect_left(edges, confidence)].append((confidence, score))
    return [_bin(m / bins, edge, inside) for m, (edge, inside) in enumerate(zip(edges, members, strict=True))]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The bins' gaps, weighted by their items: a fraction in [0, 1].

    Raises:
        VlmLitError: there are no items.
    """
    n = sum(b.n for b in bins)
    if n == 0:
        raise VlmLitError("There are no answers with a confidence, so there is no calibration error.")
    return math.fsum(b.n * b.gap for b in bins) / n


def _bin(low: float, high: float, inside: Sequence[tuple[float, float]]) -> Bin:
    # `math.fsum` rounds once, so that the order of the items cannot show.
    if not inside:
        return Bin(low=low, high=high, n=0, confidence=None, score=None)
    confidence, score = (math.fsum(column) / len(inside) for column in zip(*inside, strict=True))
    return Bin(low=low, high=high, n=len(inside), confidence=confidence, score=score)
