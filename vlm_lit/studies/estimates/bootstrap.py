"""Percentile bootstrap over clusters: the interval of a statistic if other images had been drawn.

Whole clusters are drawn again, with both systems' scores of their items, so pairs and images stay together. A statistic
is a function of sums over items, which covers means, ratios and F1, and lets thousands of resamples be drawn at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST: Final = 10_000
"""Resamples below which the ends of a 95 % interval visibly depend on the seed."""

_AT_ONCE: Final = 4_000_000  # draws held in memory


@dataclass(frozen=True, kw_only=True)
class BootstrapInterval:
    """The `level` percentile interval [low, high] of a statistic over `resamples` draws from `seed`."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


def mean_difference_bootstrap(
    differences: Sequence[float], clusters: Sequence[Hashable], *, resamples: int = FEWEST, seed: int = 0
) -> BootstrapInterval:
    """The bootstrap of the mean of paired differences [n]."""
    columns = np.stack([np.asarray(differences, float), np.ones(len(differences))], axis=1)
    return bootstrap(columns, clusters, lambda sums: sums[:, 0] / sums[:, 1], resamples=resamples, seed=seed)


def bootstrap(
    columns: Floats,
    clusters: Sequence[Hashable],
    statistic: Callable[[Floats], Floats],
    *,
    level: float = 0.95,
    resamples: int = FEWEST,
    seed: int = 0,
) -> BootstrapInterval:
    """Draw as many clusters as there are, again and again, and see what becomes of a statistic of sums.

    Args:
        columns: [n, k], what is summed, item by item.
        clusters: the cluster (image) of each item.
        statistic: takes the sums [resamples, k] to the statistic [resamples].
        level: confidence level in (0, 1).
        resamples: how often to draw.
        seed: of the draws.

    Raises:
        ValueError: lengths differ, or there are fewer than two clusters.
    """
    totals = cluster_sums(columns, clusters)
    if len(totals) < 2:
        raise ValueError(f"A bootstrap over clusters needs at least two, got {len(totals)}.")
    found = statistic(_resampled(totals, resamples, seed))
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return BootstrapInterval(low=float(low), high=float(high), level=level, resamples=resamples, seed=seed)


def cluster_sums(columns: Floats, clusters: Sequence[Hashable]) -> Floats:
    """Sums of `columns` [n, k] per cluster [clusters, k], clusters in order of first sight."""
    if len(columns) != len(clusters):
        raise ValueError(f"Every item needs its cluster, got {len(columns)} items and {len(clusters)} clusters.")
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, codes, columns)
    return sums


def _resampled(totals: Floats, resamples: int, seed: int) -> Floats:
    """Sums [resamples, k] over clusters drawn with replacement.

    Clusters with equal sums are the same to the statistic, so only how often each kind is drawn matters.
    """
    kinds, counts = np.unique(totals, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // len(kinds))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    shares = counts / counts.sum()
    return np.concatenate([generator.multinomial(len(totals), shares, size=size) @ kinds for size in sizes])
