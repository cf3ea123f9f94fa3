"""Tests of the bootstrap over clusters, against scipy and against every resample there is."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from vlm_lit.studies.estimates.bootstrap import Floats, bootstrap, cluster_sums, mean_difference_bootstrap


def test_one_item_an_image_is_scipys_percentile_bootstrap() -> None:
    differences = np.random.default_rng(1).normal(0.1, 0.4, 80)
    found = mean_difference_bootstrap(differences.tolist(), list(range(80)), resamples=40_000)
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    # The 2.5 % point of 40,000 draws varies by about 0.01 standard errors; a wrong tail is off by 0.3 of them.
    near = 0.05 * float(stats.sem(differences))
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=near)


def test_it_draws_as_often_as_enumerating_says() -> None:
    differences, clusters = [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "c", "d", "d", "d"]
    sums = {"a": (1, 2), "b": (0, 1), "c": (-1, 1), "d": (2, 3)}
    exact = Counter(
        round(sum(s for s, _ in drawn) / sum(n for _, n in drawn), 9)
        for drawn in itertools.product(sums.values(), repeat=4)
    )
    draws: list[float] = []

    def kept(
        resampled: Floats,
    ) -> Floats:
        means = resampled[:, 0] / resampled[:, 1]
        draws.extend(np.round(means, 9).tolist())
        return means

    columns = np.array([[difference, 1.0] for difference in differences])
    bootstrap(columns, clusters, kept, resamples=20_000)
    found = Counter(draws)
    assert set(found) <= set(exact)
    for value, count in exact.items():
        assert found[value] / 20_000 == pytest.approx(count / 256, abs=0.012)  # four standard errors of the largest


def test_the_interval_is_that_of_the_percentiles() -> None:
    seen: list[float] = []

    def mean(
        sums: Floats,
    ) -> Floats:
        seen.extend((sums[:, 0] / 3).tolist())
        return np.array(seen)

    found = bootstrap(np.array([[0.0], [1.0], [5.0]]), [0, 1, 2], mean, level=0.8, resamples=1_000)
    assert [found.low, found.high] == pytest.approx(np.percentile(seen, [10, 90]).tolist())


def test_the_seed_decides() -> None:
    scores = np.random.default_rng(3).normal(size=50).tolist()
    first, again, other = (mean_difference_bootstrap(scores, list(range(50)), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_drawing_in_parts_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_lit.studies.estimates.bootstrap._AT_ONCE", 90)
    seen: list[int] = []

    def mean(
        sums: Floats,
    ) -> Floats:
        seen.append(len(sums))
        return sums[:, 0]

    bootstrap(np.arange(20.0)[:, None], list(range(20)), mean, resamples=103)
    assert seen == [103]


def test_identical_systems_do_not_move() -> None:
    found = mean_difference_bootstrap([0.0] * 6, [0, 0, 1, 1, 2, 2])
    assert (found.low, found.high) == (0.0, 0.0)


def test_sums_are_by_cluster_in_order_of_first_sight() -> None:
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert cluster_sums(columns, ["x", "y", "x"]).tolist() == [[5.0, 50.0], [2.0, 20.0]]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two, got 1"):
        mean_difference_bootstrap([0.0, 1.0], ["a", "a"])
    with pytest.raises(ValueError, match="2 items and 1 clusters"):
        mean_difference_bootstrap([0.0, 1.0], ["a"])
