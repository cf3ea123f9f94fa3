"""Tests of ChartQA's relaxed accuracy: numbers within 5 %, texts to the letter, surprising effects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.chartqa import ChartQARelaxedAccuracy, chartqa_score


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("100", "100", 1.0),
        ("105", "100", 1.0),
        ("95", "100", 1.0),
        ("105.1", "100", 0.0),
        ("-105", "-100", 1.0),
        ("105", "-100", 0.0),
        ("1910", "2010", 1.0),  # years are numbers
        ("2110", "2010", 1.0),
        ("1909", "2010", 0.0),
        ("0.0", "0", 0.0),  # a target of zero is compared as text
        ("0", "0", 1.0),
        ("57%", "57", 0.0),
        ("57%", "0.57", 1.0),
        ("0.57", "57%", 1.0),
        ("23", "23%", 0.0),
        ("58%", "57%", 1.0),
        ("1e2", "100", 1.0),
        (" +100\n", "100", 1.0),
        ("1_00", "100", 1.0),
        ("\u0661\u0660\u0660", "100", 1.0),  # digits of other scripts are digits to float
        ("1,000", "1000", 0.0),
        ("1,000", "1,000", 1.0),
        ("$5", "5", 0.0),
        ("5 million", "5", 0.0),
        ("nan", "nan", 0.0),
        ("inf", "inf", 0.0),
        ("100", "inf", 0.0),
        ("YES", "Yes", 1.0),
        ("Yes.", "Yes", 0.0),
        ("Yes\n", "Yes", 0.0),
        ("%", "%", 1.0),
        ("", "", 1.0),
    ],
)
def test_one_reference(prediction: str, target: str, expected: float) -> None:
    assert chartqa_score(prediction, [target]) == expected


def test_any_reference_will_do() -> None:
    assert chartqa_score("red", ["blue", "red"]) == 1.0
    assert chartqa_score("red", ["blue", "green"]) == 0.0


def test_strip_prediction() -> None:
    assert chartqa_score(" Yes\n", ["Yes"], strip_prediction=True) == 1.0
    assert chartqa_score("Yes", [" Yes"], strip_prediction=True) == 0.0


def test_percent_none() -> None:
    assert chartqa_score("57%", ["57%"], percent="none") == 1.0
    assert chartqa_score("58%", ["57%"], percent="none") == 0.0
    assert chartqa_score("57%", ["0.57"], percent="none") == 0.0
    assert chartqa_score("0.0", ["0"], percent="none") == 1.0
    assert chartqa_score("0.1", ["0"], percent="none") == 0.0


def test_case() -> None:
    assert chartqa_score("YES", ["Yes"], ignore_case=False) == 0.0
    assert chartqa_score("1E2", ["100"], ignore_case=False) == 1.0


@given(target=st.floats(1e-3, 1e6), factor=st.floats(0.5, 1.5))
def test_within_five_percent(target: float, factor: float) -> None:
    inside = abs(factor - 1)
    if abs(inside - 0.05) > 1e-9:
        assert chartqa_score(repr(target * factor), [repr(target)]) == float(inside < 0.05)


def test_options() -> None:
    assert ChartQARelaxedAccuracy().name == "chartqa_relaxed"
    named = ChartQARelaxedAccuracy(strip_prediction=True, percent="none", ignore_case=False).name
    assert named == "chartqa_relaxed[strip_prediction,percent=none,ignore_case=false]"
    with pytest.raises(ConfigError, match="must be one of fraction, none"):
        chartqa_score("1", ["1"], percent="ignore")  # type: ignore[arg-type]
    with pytest.raises(VlmLitError, match="at least one reference"):
        chartqa_score("1", [])
