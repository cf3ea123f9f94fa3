"""Tests of significance: McNemar and Holm against statsmodels, correlation against scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables, multitest  # type: ignore[import-untyped]

from vlm_lit.studies.estimates.significance import Tally, correlation, holm, holm_levels, mcnemar, tally


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[float], list[float]]:
    a = [1.0] * (both + only_a) + [0.0] * (only_b + neither)
    b = [1.0] * both + [0.0] * only_a + [1.0] * only_b + [0.0] * neither
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(8, 2), (3, 14), (5, 5), (0, 6), (0, 0), (1, 0), (60, 41)])
def test_mcnemar_is_statsmodels(only_a: int, only_b: int) -> None:
    a, b = outcomes(9, only_a, only_b, 4)
    found = mcnemar(a, b)
    expected = contingency_tables.mcnemar([[9, only_a], [only_b, 4]], exact=True)
    assert found is not None
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.exact_p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("only_a", "only_b"), [(8, 2), (3, 14), (5, 5), (0, 6), (0, 0)])
def test_mid_p_counts_what_was_seen_half(only_a: int, only_b: int) -> None:
    n, fewer = only_a + only_b, min(only_a, only_b)
    chance = [math.comb(n, k) / 2**n for k in range(n + 1)]
    found = mcnemar(*outcomes(1, only_a, only_b, 1))
    assert found is not None
    assert found.mid_p == pytest.approx(2 * (sum(chance[:fewer]) + chance[fewer] / 2))


def test_graded_scores_have_no_mcnemar() -> None:
    assert mcnemar([0.0, 0.3], [1.0, 1.0]) is None
    assert mcnemar([0.0, 1.0], [1.0, 0.9]) is None


@pytest.mark.parametrize(
    "values", [[0.04], [0.01, 0.02, 0.03], [0.03, 0.001, 0.03, 0.5], [0.9, 0.8, 0.0], [0.0] * 3, [1.0, 0.2, 0.2, 0.04]]
)
def test_holm_is_statsmodels(values: list[float]) -> None:
    assert holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1].tolist())


def test_no_p_values_are_no_family() -> None:
    assert holm([]) == []


def test_wins_ties_losses() -> None:
    assert tally([1.0, 0.3, 0.0, 0.5], [0.0, 0.3, 0.6, 0.4]) == Tally(wins=2, ties=1, losses=1)


@given(st.lists(st.tuples(st.sampled_from([0, 0.3, 1]), st.sampled_from([0, 0.6, 1])), min_size=2, max_size=15))
def test_correlation_is_pearsons(pairs: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert correlation(a, b) is None
    else:
        assert correlation(a, b) == pytest.approx(float(stats.pearsonr(a, b).statistic), abs=1e-9)


@given(st.lists(st.sampled_from([0.0, 1e-9, 0.004, 0.012, 0.016, 0.02, 0.024, 0.03, 0.04, 0.2, 1.0]), max_size=8))
def test_a_p_is_within_its_level_exactly_where_the_corrected_one_is(values: list[float]) -> None:
    for p, corrected, level in zip(values, holm(values), holm_levels(values), strict=True):
        assert (p <= level) == (corrected <= 0.05)
        assert 0.05 / len(values) * 0.999 <= level * max(1, corrected / 0.05) or p == 0
        assert level <= 0.05


def test_holms_levels_are_his_steps() -> None:
    assert holm_levels([0.02, 0.001, 0.04]) == pytest.approx([0.05 / 2, 0.05 / 3, 0.05])
    assert holm_levels([0.04]) == [0.05]
    # The smallest is not found at 0.05 / 2, so the other one, which 0.05 would find, is not either.
    assert holm_levels([0.03, 0.04]) == pytest.approx([0.05 / 2, 0.05 * 0.04 / 0.06])
