"""Clustered intervals of a mean score, or of a difference of two, where questions share images.

Scores of questions about one image move together, so errors are clustered: CR1 with Student's t on (clusters - 1)
degrees of freedom, as in a least-squares fit of a constant with clustered covariance; or equation 4 of Miller 2024,
"Adding Error Bars to Evals" (arXiv 2411.00640), with the same t. These errors hold no training noise: that takes
several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from scipy import stats

ErrorKind: TypeAlias = Literal["cr1", "miller"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean score, its clustered standard error `se`, and its `level` confidence interval [low, high]."""

    mean: float
    se: float
    low: float
    high: float
    level: float
    n: int
    n_clusters: int


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean of a - b over the same items, with a two-sided `p` for "there is no difference".

    `se` is clustered and the one behind the interval and `p`; `plain_se` takes every item for an image of its own.
    """

    difference: float
    se: float
    plain_se: float
    low: float
    high: float
    p: float
    level: float
    n: int
    n_clusters: int


def mean_interval(
    scores: Sequence[float], clusters: Sequence[Hashable], *, level: float = 0.95, kind: ErrorKind = "cr1"
) -> Interval:
    """Estimates the mean of `scores` [n] in their own unit.

    The interval is symmetric and not cut at 0 or 1; scores that are all the same give one of no width.

    Args:
        scores: one score per item.
        clusters: the cluster (image) of each item.
        level: confidence level in (0, 1).
        kind: how the standard error is clustered: `cr1`, or `miller` for equation 4 of Miller 2024.

    Raises:
        ValueError: lengths differ, a score is not finite, the level is outside (0, 1), or fewer than two clusters.
    """
    _check(scores, clusters, level)
    mean = math.fsum(scores) / len(scores)
    sums = _deviation_sums(scores, clusters, mean)
    n, n_clusters = len(scores), len(sums)
    between = math.fsum(total**2 for total in sums)
    if kind == "cr1":
        se = math.sqrt(n_clusters / (n_clusters - 1) * between) / n
    else:  # SE^2 + (between - within) / n^2, which is
        within = math.fsum((score - mean) ** 2 for score in scores)
        se = math.sqrt(between + within / (n - 1)) / n
    half = float(stats.t.ppf((1 + level) / 2, n_clusters - 1)) * se
    return Interval(mean=mean, se=se, low=mean - half, high=mean + half, level=level, n=n, n_clusters=n_clusters)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    kind: ErrorKind = "cr1",
) -> PairedDifference:
    """Estimates the mean of `a - b`, two systems' scores [n] of the same items in the same order.

    Identical systems give the difference 0, the interval [0, 0] and p = 1.

    Raises:
        ValueError: as `mean_interval`, or `a` and `b` differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"A paired difference needs the same items twice, got {len(a)} and {len(b)} scores.")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    found = mean_interval(differences, clusters, level=level, kind=kind)
    return PairedDifference(
        difference=found.mean,
        se=found.se,
        plain_se=plain_error(differences),
        low=found.low,
        high=found.high,
        p=_two_sided_p(found),
        level=level,
        n=found.n,
        n_clusters=found.n_clusters,
    )


def at_level(found: PairedDifference, level: float) -> PairedDifference:
    """The same difference with the interval of another confidence level in (0, 1)."""
    half = float(stats.t.ppf((1 + level) / 2, found.n_clusters - 1)) * found.se
    return replace(found, low=found.difference - half, high=found.difference + half, level=level)


def cut(interval: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """An interval without what no value can be: a mean of scores is in [0, 1], a difference of two in [-1, 1].

    It covers the truth as often as before, for the truth is never in what is cut off.
    """
    return max(interval[0], low), min(interval[1], high)


def plain_error(scores: Sequence[float]) -> float:
    """The standard error of a mean whose scores [n >= 2] have nothing to do with each other: sd / sqrt(n)."""
    n = len(scores)
    mean = math.fsum(scores) / n
    return math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (n - 1) / n)


def _two_sided_p(found: Interval) -> float:
    if found.se == 0:  # no spread between the clusters: nothing to divide by
        return 1.0 if found.mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(found.mean) / found.se, found.n_clusters - 1))


def _deviation_sums(scores: Sequence[float], clusters: Sequence[Hashable], mean: float) -> list[float]:
    """Each cluster's sum of deviations from the mean."""
    members: dict[Hashable, list[float]] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        members.setdefault(cluster, []).append(score - mean)
    return [math.fsum(deviations) for deviations in members.values()]


def _check(scores: Sequence[float], clusters: Sequence[Hashable], level: float) -> None:
    if len(scores) != len(clusters):
        raise ValueError(f"Every score needs its cluster, got {len(scores)} scores and {len(clusters)} clusters.")
    if not 0 < level < 1:
        raise ValueError(f"A confidence level lies between 0 and 1, got {level}.")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError("A score is not a finite number, so neither is the mean.")
    if len(set(clusters)) < 2:
        raise ValueError(
            f"A clustered interval needs at least two clusters, got {len(set(clusters))} of {len(scores)} scores: "
            "what one image shows about other images cannot be estimated."
        )
