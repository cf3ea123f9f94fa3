"""Tests of the calibration error: it is Guo et al.'s, and its bins are those of a reliability diagram."""

from __future__ import annotations

import random

import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.calibration import BINS, expected_calibration_error, reliability


def test_a_hand_worked_example() -> None:
    # Five bins of 0.2. Above 0.4 and up to 0.6: 0.5 wrong, 0.6 right: |0.5 - 0.55| of two.
    # Above 0.8: 0.9 right, 0.9 wrong, 1.0 right: |2/3 - 2.8/3| of three. Together (0.1 + 0.8) / 5.
    bins = reliability([(0.5, 0), (0.6, 1), (0.9, 1), (0.9, 0), (1.0, 1)], bins=5)
    assert [b.n for b in bins] == [0, 0, 2, 0, 3]
    assert [b.score for b in bins] == [None, None, 0.5, None, pytest.approx(2 / 3)]
    assert [b.confidence for b in bins] == [None, None, pytest.approx(0.55), None, pytest.approx(2.8 / 3)]
    assert expected_calibration_error(bins) == pytest.approx(0.9 / 5, abs=1e-15)


def test_there_are_fifteen_bins_of_equal_width() -> None:
    bins = reliability([(0.5, 1)])
    assert len(bins) == BINS == 15
    assert (bins[0].low, bins[-1].high) == (0, 1)
    assert {round(b.high - b.low, 12) for b in bins} == {round(1 / 15, 12)}


@pytest.mark.parametrize(
    ("confidence", "place"), [(0.0, 0), (1 / 15, 0), (3 / 15, 2), (0.2001, 3), (14 / 15, 13), (1.0, 14)]
)
def test_a_bin_holds_its_upper_edge_and_not_its_lower(confidence: float, place: int) -> None:
    assert [b.n for b in reliability([(confidence, 1)])].index(1) == place


def judged(n: int, seed: int) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(c, float(chance.random() < c**2)) for c in (chance.uniform(0.05, 0.99) for _ in range(n))]


def by_torchmetrics(items: list[tuple[float, float]]) -> float:
    sure, right = (torch.tensor(column, dtype=torch.float64) for column in zip(*items, strict=True))
    return float(binary_calibration_error(sure, right.int(), n_bins=BINS, norm="l1"))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_torchmetrics_where_no_confidence_is_on_an_edge(seed: int) -> None:
    items = judged(500, seed)
    assert expected_calibration_error(reliability(items)) == pytest.approx(by_torchmetrics(items), abs=1e-12)


def test_a_confidence_of_one_is_in_the_last_bin_which_torchmetrics_has_otherwise() -> None:
    # 1.0 wrong and 0.95 right make |0.5 - 0.975| in one bin; in two they make half of 1 and of 0.05.
    items = [(1.0, 0.0), (0.95, 1.0)]
    assert expected_calibration_error(reliability(items)) == pytest.approx(0.475)
    assert by_torchmetrics(items) == pytest.approx(0.525)


def test_the_order_of_the_items_cannot_show() -> None:
    items = judged(300, 9)
    assert reliability(items[::-1]) == reliability(items)


def test_graded_scores_count_by_their_mean() -> None:
    (last,) = [b for b in reliability([(0.95, 0.3), (0.99, 0.9)]) if b.n]
    assert last.score == pytest.approx(0.6)
    assert last.gap == pytest.approx(0.97 - 0.6)


@pytest.mark.parametrize("confidence", [float("nan"), 1.1, -0.1])
def test_what_is_no_probability_is_refused(confidence: float) -> None:
    with pytest.raises(VlmLitError, match="is no probability"):
        reliability([(confidence, 1)])


def test_no_items_have_no_error() -> None:
    with pytest.raises(VlmLitError, match="no answers with a confidence"):
        expected_calibration_error(reliability([]))
