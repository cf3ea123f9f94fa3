"""Tests of the metric `number`: near answers, errors, bias."""

from __future__ import annotations

import math

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.catalogue import metric, rule
from vlm_lit.metrics.number import NumberAccuracy
from vlm_lit.metrics.rules import Answer


def judged(pairs: list[tuple[str, str]], **options: object) -> dict[str, float]:
    made = metric("number", options)
    made.update([said for said, _ in pairs], [[true] for _, true in pairs], [str(i) for i in range(len(pairs))])
    return made.compute()


def test_the_figures_by_hand() -> None:
    found = judged([("3", "3"), ("five", "4"), ("There are 8.", "10"), ("a hammer", "2"), ("1", "0")], relative=0.25)
    assert found == pytest.approx(
        {
            "overall": 3 / 5,  # 3, 5 and 8 are within a quarter; 1 of 0 is not
            "answered": 4 / 5,
            "mean_absolute_error": (0 + 1 + 2 + 1) / 4,
            "root_mean_square_error": math.sqrt((0 + 1 + 4 + 1) / 4),
            "bias": (0 + 1 - 2 + 1) / 4,
            "mean_relative_error": (0 + 0.25 + 0.2) / 3,
        }
    )


def test_the_wider_tolerance_holds() -> None:
    pairs = [("101", "100"), ("0.4", "0")]
    assert judged(pairs)["overall"] == 0
    assert judged(pairs, absolute=0.5)["overall"] == 0.5
    assert judged(pairs, absolute=0.5, relative=0.01)["overall"] == 1


def test_units() -> None:
    found = judged([("50 mm", "5 cm"), ("5 kg", "5 cm"), ("5", "5 cm")])
    assert found["overall"] == found["answered"] == pytest.approx(2 / 3)


def test_small_numbers_are_told_apart() -> None:
    assert judged([("9e-10", "1e-10")])["overall"] == 0
    assert judged([("0.3", "0.30000000000000004")])["overall"] == 1


def test_questions_of_another_kind_are_left_out_if_asked() -> None:
    made = metric("number", {"others": "leave_out"})
    made.update(["3", "red", "7"], [["3"], ["red"], ["3 or 4"]], ["a", "b", "c"])
    assert made.compute()["overall"] == 1
    judge = NumberAccuracy(others="leave_out")
    assert judge.error(Answer("3", ["red"])) is None
    with pytest.raises(VlmLitError, match="at least one reference"):
        judge.counts(Answer("3", []))


def test_an_answer_without_end_is_no_number() -> None:
    found = judged([("9" * 400, "3"), ("1e200", "3"), ("hundred " * 200, "3"), ("4", "3")])
    assert (found["answered"], found["root_mean_square_error"]) == (0.25, 1.0)


def test_several_numbers_are_no_answer_unless_one_is_meant() -> None:
    answer = Answer("row 3, column 4", ["4"])
    assert NumberAccuracy().score(answer) == 0
    assert NumberAccuracy(several="first").score(answer) == 0
    assert NumberAccuracy(several="last").score(answer) == 1
    assert NumberAccuracy().score(Answer("4, that is 4", ["4"])) == 1
    assert NumberAccuracy().unparsed(NumberAccuracy().counts(answer) or ()) == 1


def test_nothing_answered_has_errors_of_zero_and_says_so() -> None:
    found = judged([("a hammer", "2")])
    assert found["answered"] == found["mean_absolute_error"] == 0


def test_compared_are_plain_numbers() -> None:
    assert NumberAccuracy().compared(Answer("There are five.", ["5.0"])) == ("5", ["5"])
    assert NumberAccuracy().compared(Answer("50 mm", ["5 cm"])) == ("5", ["5"])
    assert NumberAccuracy().compared(Answer("a hammer", ["5"])) == ("a hammer", ["5"])


def test_a_truth_without_a_number_is_refused() -> None:
    with pytest.raises(VlmLitError, match="reference that gives one number, got 'red'"):
        NumberAccuracy().counts(Answer("3", ["red"]))


@pytest.mark.parametrize("options", [{"absolute": -1.0}, {"relative": math.inf}, {"relative": math.nan}])
def test_a_tolerance_that_means_nothing_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be 0 or more"):
        rule("number", options)
