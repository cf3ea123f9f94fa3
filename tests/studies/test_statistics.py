"""Tests of clustered intervals: against statsmodels, by hand, and where they degenerate."""

import math

import numpy as np
import pytest
import statsmodels.api as sm  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vlm_lit.studies.estimates.statistics import mean_interval, paired_difference

SCORES = st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]), min_size=4, max_size=20)


def two_runs(seed: int, n: int, n_images: int) -> tuple[list[float], list[float], list[int]]:
    """Scores that hang together by image, for unequal numbers of questions an image."""
    random = np.random.default_rng(seed)
    images = np.concatenate([np.arange(n_images), random.integers(0, n_images, n - n_images)])
    level = random.uniform(0.2, 0.8, n_images)[images]
    a, b = (np.clip(level + random.normal(0, 0.3, n), 0, 1) for _ in range(2))
    return a.tolist(), b.tolist(), images.tolist()


@pytest.mark.parametrize(("seed", "n", "n_images"), [(0, 200, 30), (1, 50, 2), (2, 40, 40), (3, 500, 7)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_mean_and_difference_equal_statsmodels(seed: int, n: int, n_images: int, level: float) -> None:
    a, b, images = two_runs(seed, n, n_images)
    groups = {"groups": np.array(images), "use_correction": True, "df_correction": True}
    for scores in (a, [x - y for x, y in zip(a, b, strict=True)]):
        fit = sm.OLS(np.array(scores), np.ones(n)).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
        found = mean_interval(scores, images, level=level)
        low, high = fit.conf_int(1 - level)[0]
        # Sums of a few hundred float64 of order 1: 1e-10 is far above their rounding and far below a wrong factor.
        assert [found.mean, found.se, found.low, found.high] == pytest.approx(
            [fit.params[0], fit.bse[0], low, high], rel=1e-10, abs=1e-12
        )
        assert (found.n, found.n_clusters, found.level) == (n, n_images, level)
    assert paired_difference(a, b, images).p == pytest.approx(fit.pvalues[0], rel=1e-8)


def test_the_paired_difference_is_the_interval_of_the_differences() -> None:
    a, b, images = two_runs(4, 60, 9)
    paired = paired_difference(a, b, images)
    plain = mean_interval([x - y for x, y in zip(a, b, strict=True)], images)
    assert (paired.difference, paired.se, paired.low, paired.high) == (plain.mean, plain.se, plain.low, plain.high)
    assert paired.difference == pytest.approx(sum(a) / 60 - sum(b) / 60)


def test_without_clusters_it_is_the_paired_t_test() -> None:
    a, b, _ = two_runs(8, 40, 40)
    found, expected = paired_difference(a, b, list(range(40))), stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    assert [found.p, found.low, found.high] == pytest.approx([expected.pvalue, low, high], rel=1e-8)
    assert found.plain_se == pytest.approx(found.se)


def test_the_plain_error_takes_no_notice_of_clusters() -> None:
    a, b, images = two_runs(9, 60, 9)
    found = paired_difference(a, b, images)
    assert found.plain_se == pytest.approx(stats.sem(np.array(a) - np.array(b)))
    assert found.plain_se != pytest.approx(found.se)


@pytest.mark.parametrize(("n", "n_images"), [(60, 9), (40, 40)])
def test_miller_is_his_equation_4(n: int, n_images: int) -> None:
    scores, _, images = two_runs(10, n, n_images)
    mean = sum(scores) / n
    # As he writes it: the cross terms of every two different questions about one image.
    cross = sum(
        (scores[i] - mean) * (scores[j] - mean) for i in range(n) for j in range(n) if i != j and images[i] == images[j]
    )
    found = mean_interval(scores, images, kind="miller")
    assert found.se == pytest.approx(math.sqrt(stats.sem(scores) ** 2 + cross / n**2))
    assert found.high - found.mean == pytest.approx(float(stats.t.ppf(0.975, n_images - 1)) * found.se)


def test_a_case_by_hand() -> None:
    # Mean 0.5; deviation sums +1 and -1; CR1 = sqrt(2 / 1 * 2) / 4 = 0.5.
    found = mean_interval([1.0, 1.0, 0.0, 0.0], ["cat", "cat", "dog", "dog"])
    assert (found.mean, found.se) == (0.5, 0.5)
    assert found.high == pytest.approx(0.5 + 0.5 * 12.706204736)  # t with one degree of freedom


def test_one_question_an_image_is_the_plain_standard_error() -> None:
    a, _, _ = two_runs(5, 30, 30)
    found = mean_interval(a, list(range(30)))
    assert found.se == pytest.approx(float(np.std(a, ddof=1)) / math.sqrt(30))


def test_repeating_every_question_of_an_image_adds_no_certainty() -> None:
    a, _, images = two_runs(6, 40, 10)
    assert mean_interval(a * 2, images * 2).se == pytest.approx(mean_interval(a, images).se)


@given(SCORES)
def test_identical_systems_do_not_differ(scores: list[float]) -> None:
    found = paired_difference(scores, list(scores), [index % 3 for index in range(len(scores))])
    assert (found.difference, found.se, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_is_certain() -> None:
    found = paired_difference([1.0] * 4, [0.5] * 4, [1, 1, 2, 2])
    assert (found.difference, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 0.0)


@given(scores=SCORES, data=st.data())
def test_order_does_not_matter(scores: list[float], data: st.DataObject) -> None:
    pairs = [(score, index % 3) for index, score in enumerate(scores)]
    shuffled = data.draw(st.permutations(pairs))
    found = mean_interval([s for s, _ in shuffled], [c for _, c in shuffled])
    assert found == mean_interval(scores, [c for _, c in pairs])


def test_swapping_the_systems_turns_the_difference_round() -> None:
    a, b, images = two_runs(7, 60, 9)
    there, back = paired_difference(a, b, images), paired_difference(b, a, images)
    assert (there.difference, there.low, there.high, there.p) == (-back.difference, -back.high, -back.low, back.p)


def test_one_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two clusters, got 1 of 3 scores"):
        mean_interval([0.0, 1.0, 1.0], ["cat"] * 3)
    with pytest.raises(ValueError, match="at least two clusters"):
        paired_difference([1.0], [1.0], ["cat"])
    with pytest.raises(ValueError, match="got 0 of 0"):
        mean_interval([], [])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="2 scores and 1 clusters"):
        mean_interval([0.0, 1.0], ["cat"])
    with pytest.raises(ValueError, match="got 2 and 1 scores"):
        paired_difference([0.0, 1.0], [0.0], ["cat", "dog"])
    with pytest.raises(ValueError, match="not a finite number"):
        mean_interval([0.0, math.nan], ["cat", "dog"])
    with pytest.raises(ValueError, match=r"between 0 and 1, got 95"):
        mean_interval([0.0, 1.0], ["cat", "dog"], level=95)
