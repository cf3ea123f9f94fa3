"""Significance of paired scores: counts of wins, McNemar's test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy import stats

DETECTABLE: Final = 2.8
"""Standard errors that a true difference needs to be found in 80 % of trials at the 5 % level: 1.96 + 0.84."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """On how many items the first system scored higher, the same, lower."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Items that only one of two systems got right, and two-sided p values for "both are as likely"."""

    only_a: int
    only_b: int
    exact_p: float
    mid_p: float


def tally(a: Sequence[float], b: Sequence[float]) -> Tally:
    """Count who scored higher on each of the same items, in the same order."""
    pairs = list(zip(a, b, strict=True))
    wins, losses = sum(x > y for x, y in pairs), sum(x < y for x, y in pairs)
    return Tally(wins=wins, ties=len(pairs) - wins - losses, losses=losses)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> McNemar | None:
    """McNemar's test for scores that are all 0 or 1; None where any is graded.

    The mid-p variant counts the observed split half, which undoes most of the exact test's caution. Neither knows that
    questions share images.
    """
    if not {*a, *b} <= {0.0, 1.0}:
        return None
    counted = tally(a, b)
    fewer, n = min(counted.wins, counted.losses), counted.wins + counted.losses
    below, here = float(stats.binom.cdf(fewer, n, 0.5)), float(stats.binom.pmf(fewer, n, 0.5))
    return McNemar(
        only_a=counted.wins,
        only_b=counted.losses,
        exact_p=min(1.0, 2 * below),
        mid_p=min(1.0, 2 * below - here),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values, in the order given: each bounds the error of the whole family."""
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def holm_levels(values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """The level at which Holm's procedure tests each of some p values, in the order given.

    A p value is at most its level exactly where its corrected one is at most `alpha`, so an interval of confidence
    1 - level leaves out zero exactly where the corrected test finds a difference (Serlin 1993).
    """
    levels = [alpha] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        p, step = values[index], alpha / (len(values) - rank)
        # Where one before it was not found, neither is this: no level above what keeps it out.
        largest = max(largest, (len(values) - rank) * p)
        levels[index] = min(step, alpha * p / largest) if largest > 0 else step
    return levels


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of two systems' scores; None where one of them is the same everywhere."""
    n = len(a)
    mean_a, mean_b = math.fsum(a) / n, math.fsum(b) / n
    together = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    apart = math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))
    if len(set(a)) == 1 or len(set(b)) == 1 or apart == 0:
        return None
    return max(-1.0, min(1.0, together / apart))
