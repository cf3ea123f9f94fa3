"""Tests of VizWiz and A-OKVQA accuracy: what they change of VQA v2's."""

import pytest

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.aokvqa import AOKVQAAccuracy, aokvqa_score
from vlm_lit.metrics.rules import Answer
from vlm_lit.metrics.vizwiz import VizWizAccuracy, vizwiz_score


def ten(matches: int, answer: str = "red") -> list[str]:
    return [answer] * matches + ["blue"] * (10 - matches)


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vizwiz_leaves_one_annotator_out(matches: int, expected: float) -> None:
    assert vizwiz_score("red", ten(matches)) == expected


def test_vizwiz_normalises_the_prediction_even_if_references_agree() -> None:
    assert vizwiz_score("The Red.\n", ["red"] * 10) == 1.0


def test_vizwiz_never_normalises_references() -> None:
    assert vizwiz_score("Red", ten(5, "Red")) == 0.0
    assert vizwiz_score("the red", ten(5, "the red")) == 0.0


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (3, 1.0), (10, 1.0)])
def test_aokvqa_leaves_nobody_out(matches: int, expected: float) -> None:
    assert aokvqa_score("red", ten(matches)) == expected


def test_aokvqa_compares_raw() -> None:
    assert aokvqa_score("Red", ten(10)) == 0.0
    assert aokvqa_score("red ", ten(10)) == 0.0


def test_aokvqa_leaves_difficult_direct_answers_out() -> None:
    metric = ItemMetric(AOKVQAAccuracy())
    flags = [{"difficult_direct_answer": flag} for flag in ("true", "True", "false")]
    metric.update(["red"] * 4, [ten(0), ten(0), ten(1), ten(3)], ["a", "b", "c", "d"], [*flags, {}])
    assert metric.per_item() == {"c": 1 / 3, "d": 1.0}
    assert metric.compute()["overall"] == pytest.approx(2 / 3)
    assert AOKVQAAccuracy().score(Answer("red", ten(3), groups=flags[0])) is None


def test_no_references_are_refused() -> None:
    for score in (vizwiz_score, aokvqa_score):
        with pytest.raises(VlmLitError, match="at least one reference"):
            score("red", [])
    assert VizWizAccuracy().name == "vizwiz"
