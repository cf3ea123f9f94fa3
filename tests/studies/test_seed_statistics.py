"""Tests of means over images and seeds: by hand, against statsmodels' analysis of variance, in simulation."""

import math

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import ols  # type: ignore[import-untyped]
from statsmodels.stats.anova import anova_lm  # type: ignore[import-untyped]

from vlm_lit.studies.estimates.seed_statistics import seeded_mean
from vlm_lit.studies.estimates.statistics import mean_interval

Floats = NDArray[np.float64]


def drawn(
    random: np.random.Generator, images: int, seeds: int, *, image: float, seed: float, both: float, questions: int = 2
) -> Floats:
    """Scores [images * questions, seeds] around 0, whose images, seeds and both together spread by so much."""
    scores = (
        random.normal(0, image, (images, 1))
        + random.normal(0, seed, (1, seeds))
        + random.normal(0, both, (images, seeds))
    )
    return np.repeat(scores, questions, axis=0) + random.normal(0, 0.3, (images * questions, seeds))


def clusters(images: int, questions: int = 2) -> list[int]:
    return [image for image in range(images) for _ in range(questions)]


def test_a_case_by_hand() -> None:
    # Mean 3/8. Image means 3/4, 3/8, 0; deviations 3/8, 0, -3/8; V_image = var / 3 = (9/64) / 3 = 3/64.
    # Seed means 1/2, 1/4; V_seed = var / 2 = (1/32) / 2 = 1/64.
    # Left: (1/8, -1/8), (0, 0), (-1/8, 1/8) twice over: 4/64 / ((3-1)(2-1)) / 6 = 1/192.
    scores = np.array([[1.0, 0.5], [0.5, 0.25], [0.0, 0.0]])
    found = seeded_mean(scores, ["cat", "dog", "hen"])
    variance = 3 / 64 + 1 / 64 - 1 / 192
    assert (found.mean, found.by_seed, found.n, found.images, found.seeds) == (0.375, (0.5, 0.25), 3, 3, 2)
    assert found.se == pytest.approx(math.sqrt(variance))
    assert found.sd == pytest.approx(0.25 / math.sqrt(2))
    df = variance**2 / ((3 / 64) ** 2 / 2 + (1 / 64) ** 2 / 1 + (1 / 192) ** 2 / 2)
    assert found.df == pytest.approx(df)
    assert found.high == pytest.approx(0.375 + float(stats.t.ppf(0.975, df)) * math.sqrt(variance))
    assert found.low == pytest.approx(0.75 - (found.high or 0))
    assert found.p == pytest.approx(2 * float(stats.t.sf(0.375 / math.sqrt(variance), df)))


@pytest.mark.parametrize(("images", "seeds"), [(6, 2), (20, 3), (9, 5)])
def test_it_is_the_analysis_of_variance_of_a_crossed_design(images: int, seeds: int) -> None:
    scores = drawn(np.random.default_rng(images), images, seeds, image=1, seed=1, both=0.5, questions=1)
    image, seed = np.indices(scores.shape)
    table = pd.DataFrame({"score": scores.ravel(), "image": image.ravel(), "seed": seed.ravel()})
    squares = anova_lm(ols("score ~ C(image) + C(seed)", table).fit())["mean_sq"]
    of_image, of_seed, of_both = (squares[name] / scores.size for name in ("C(image)", "C(seed)", "Residual"))
    assert of_image + of_seed - of_both > max(of_image, of_seed), "the case takes the other branch"
    found = seeded_mean(scores, clusters(images, 1))
    assert found.se == pytest.approx(math.sqrt(of_image + of_seed - of_both), rel=1e-9)
    parts = ((of_image, images - 1), (of_seed, seeds - 1), (of_both, (images - 1) * (seeds - 1)))
    satterthwaite = (of_image + of_seed - of_both) ** 2 / sum(part**2 / df for part, df in parts)
    assert found.df == pytest.approx(max(satterthwaite, min(images, seeds) - 1), rel=1e-9)


def test_one_seed_is_the_clustered_interval_of_the_items() -> None:
    scores = drawn(np.random.default_rng(1), 9, 1, image=1, seed=0, both=0.5)
    found, expected = seeded_mean(scores, clusters(9)), mean_interval(scores[:, 0].tolist(), clusters(9))
    assert (found.mean, found.se, found.low, found.high, found.df) == pytest.approx(
        (expected.mean, expected.se, expected.low, expected.high, 8)
    )
    assert found.sd is None


def test_seeds_that_agree_leave_the_interval_of_the_items() -> None:
    one = drawn(np.random.default_rng(2), 9, 1, image=1, seed=0, both=0.5)
    found, expected = seeded_mean(np.repeat(one, 3, axis=1), clusters(9)), seeded_mean(one, clusters(9))
    assert (found.se, found.df, found.low) == pytest.approx((expected.se, expected.df, expected.low))


def test_images_that_agree_leave_the_t_interval_of_the_seeds() -> None:
    by_seed = [0.2, 0.5, 0.3]
    found = seeded_mean(np.tile(by_seed, (8, 1)), clusters(4))
    assert found.se == pytest.approx(float(stats.sem(by_seed)))
    assert found.df == 2
    low, high = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    assert found.interval == pytest.approx((low, high))


def test_images_may_have_unequal_numbers_of_questions() -> None:
    random = np.random.default_rng(3)
    images = [0, 0, 0, 0, 1, 2, 2, 3, 3, 3]
    of_items, of_seeds = random.random(10), np.array([0.0, 0.4, 0.1])
    # Neither image nor seed means more than its own share: the two variances add up, and nothing is in both.
    found = seeded_mean(of_items[:, None] + of_seeds, images)
    averaged = mean_interval(of_items.tolist(), images)
    assert found.se == pytest.approx(math.hypot(averaged.se, float(stats.sem(of_seeds))))


def test_it_is_never_surer_than_the_images_or_the_seeds_alone() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    images = list(range(6))
    found, averaged = seeded_mean(scores, images), mean_interval(scores.mean(axis=1).tolist(), images)
    assert found.by_seed == (0.5, 0.5)
    assert (found.se, found.df) == pytest.approx((averaged.se, 5))
    turned = seeded_mean(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.7]]), [0, 1])
    assert turned.se is not None
    assert turned.se >= float(stats.sem(turned.by_seed)) - 1e-12


@pytest.mark.parametrize(
    ("spread", "least"),
    [
        ({"image": 1.0, "seed": 0.0, "both": 0.7}, 0.93),
        ({"image": 1.0, "seed": 0.3, "both": 0.7}, 0.93),
        ({"image": 0.0, "seed": 0.0, "both": 1.0}, 0.93),
        ({"image": 0.3, "seed": 0.5, "both": 0.3}, 0.90),
    ],
)
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_the_truth(spread: dict[str, float], least: float, seeds: int) -> None:
    random = np.random.default_rng(7)
    draws = [drawn(random, 25, seeds, **spread, questions=2) for _ in range(400)]
    found = [seeded_mean(scores, clusters(25)).interval for scores in draws]
    covered = sum(low <= 0 <= high for low, high in filter(None, found)) / 400
    # 400 trials have a standard error of 1.1 points at 95 %.
    assert least <= covered <= 0.995


def test_leaving_the_seeds_out_would_not_cover() -> None:
    random = np.random.default_rng(7)
    draws = [drawn(random, 25, 3, image=0.3, seed=0.5, both=0.3).mean(axis=1).tolist() for _ in range(400)]
    found = [mean_interval(scores, clusters(25)) for scores in draws]
    assert sum(interval.low <= 0 <= interval.high for interval in found) / 400 < 0.6


def test_nothing_differs_from_itself_and_one_image_says_nothing_of_others() -> None:
    found = seeded_mean(np.zeros((4, 3)), clusters(2))
    assert (found.mean, found.se, found.interval, found.p) == (0.0, 0.0, (0.0, 0.0), 1.0)
    assert seeded_mean(np.full((4, 3), 0.25), clusters(2)).p == 0.0
    one = seeded_mean(np.array([[1.0, 0.0], [1.0, 1.0]]), ["cat", "cat"])
    assert (one.mean, one.se, one.interval, one.p, one.images) == (0.75, None, None, None, 1)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[items, seeds\].*got the shape \(3,\)"):
        seeded_mean(np.zeros(3), [1, 2, 3])
    with pytest.raises(ValueError, match=r"got the shape \(3, 0\)"):
        seeded_mean(np.zeros((3, 0)), [1, 2, 3])
    with pytest.raises(ValueError, match="2 items and 1 clusters"):
        seeded_mean(np.zeros((2, 1)), [1])
    with pytest.raises(ValueError, match="not a finite number"):
        seeded_mean(np.array([[0.0], [math.nan]]), [1, 2])
    with pytest.raises(ValueError, match="got 95"):
        seeded_mean(np.zeros((2, 1)), [1, 2], level=95)
