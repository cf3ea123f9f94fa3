"""Tests of VQA accuracy of one answer: the worked examples of the definition."""

from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.vqa_accuracy import Normalize, VQAAccuracy, vqa_score
from vlm_lit.vqa.agreement import Aggregation

ANSWERS = st.sampled_from(["yes", "Yes", "yes.", "no", "2", "two", "a dog", "dog"])


def ten(matches: int) -> list[str]:
    return ["red"] * matches + ["blue"] * (10 - matches)


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_leave_one_out_of_ten(matches: int, expected: float) -> None:
    assert vqa_score("red", ten(matches)) == expected


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (3, 1.0), (10, 1.0)])
def test_min3_of_ten(matches: int, expected: float) -> None:
    assert vqa_score("red", ten(matches), aggregation="min3") == expected


def test_the_annotator_left_out_is_one_by_position_not_by_text() -> None:
    # Leaving out every equal answer gives 0.6 here; that is what the official code does where answer_id is missing.
    assert vqa_score("yes", ["yes"] * 4 + ["no"] * 6) == 1.0


def test_unanimous_references_are_compared_raw() -> None:
    assert vqa_score("Yes", ["yes"] * 10) == 0.0
    assert vqa_score("yes.", ["yes"] * 10) == 0.0
    assert vqa_score("yes", ["yes"] * 10) == 1.0


def test_one_differing_reference_switches_normalisation_on() -> None:
    references = ["yes"] * 9 + ["Yes"]
    assert vqa_score("Yes.", references) == 1.0
    assert vqa_score("yes", references) == 1.0


def test_a_trailing_blank_does_not_break_unanimity() -> None:
    references = ["yes"] * 9 + ["yes "]
    assert vqa_score("Yes", references) == 0.0
    assert vqa_score("yes", references) == 1.0


def test_line_breaks_and_tabs_become_blanks_and_ends_are_stripped() -> None:
    assert vqa_score("\tred\ncar \n", ["red car"] * 10) == 1.0
    assert vqa_score("red\rcar", ["red car"] * 10) == 0.0


def test_always_normalises_unanimous_references_too() -> None:
    assert vqa_score("Yes.", ["yes"] * 10, normalize="always") == 1.0
    assert vqa_score("two", ["2"] * 10, normalize="always") == 1.0


def test_the_m4c_processor_treats_the_prediction_alone() -> None:
    assert vqa_score("Yes.", ["yes"] * 10, prediction_processor="m4c") == 1.0
    assert vqa_score("yes", ["Yes"] * 10, prediction_processor="m4c") == 0.0
    # What TextVQA's step deletes, VQA v2's makes a blank: `redblue` meets no `red,blue`.
    assert vqa_score("red,blue", [*["red,blue"] * 9, "red"], prediction_processor="m4c") == 0.0
    assert vqa_score("red,blue", [*["red,blue"] * 9, "red"]) == 1.0


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_references_are_exact_match(n: int, aggregation: Aggregation) -> None:
    others = ["blue"] * (n - 1)
    assert vqa_score("red", ["red", *others], aggregation=aggregation) == 1.0
    assert vqa_score("green", ["red", *others], aggregation=aggregation) == 0.0


def test_a_single_reference_is_compared_raw_unless_asked_otherwise() -> None:
    assert vqa_score("Red", ["red"]) == 0.0
    assert vqa_score("Red", ["red"], normalize="always") == 1.0


def test_four_references_follow_the_rule_as_written() -> None:
    assert vqa_score("red", ["red", "blue", "blue", "blue"]) == pytest.approx(3 * (1 / 3) / 4)
    assert vqa_score("red", ["red"] * 4) == 1.0


@given(prediction=ANSWERS, references=st.lists(ANSWERS, min_size=4, max_size=12))
def test_the_closed_form_is_the_mean_over_annotators(prediction: str, references: list[str]) -> None:
    matched = [vqa_score(prediction, [one], normalize="always") == 1.0 for one in references]
    each = [min(1.0, (sum(matched) - mine) / 3) for mine in matched]
    assert vqa_score(prediction, references, normalize="always") == pytest.approx(sum(each) / len(each), abs=1e-12)


@given(
    prediction=ANSWERS,
    references=st.lists(ANSWERS, min_size=1, max_size=12),
    normalize=st.sampled_from(get_args(Normalize)),
    aggregation=st.sampled_from(get_args(Aggregation)),
    data=st.data(),
)
def test_the_order_of_references_does_not_matter(
    prediction: str,
    references: list[str],
    normalize: Literal["official", "always"],
    aggregation: Literal["leave_one_out", "min3"],
    data: st.DataObject,
) -> None:
    shuffled = data.draw(st.permutations(references))
    score = vqa_score(prediction, references, normalize=normalize, aggregation=aggregation)
    assert score == vqa_score(prediction, shuffled, normalize=normalize, aggregation=aggregation)
    assert 0 <= score <= 1


def test_no_references_are_refused() -> None:
    with pytest.raises(VlmLitError, match="at least one reference"):
        vqa_score("red", [])


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="official, always"):
        VQAAccuracy(normalize="never")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave_one_out, min3"):
        vqa_score("red", ["red"], aggregation="mean")  # type: ignore[arg-type]


def test_the_name_carries_the_options() -> None:
    assert VQAAccuracy().name == "vqa_accuracy"
    assert VQAAccuracy(normalize="always").name == "vqa_accuracy[normalize=always]"
    assert VQAAccuracy(prediction_processor="m4c").name == "vqa_accuracy[prediction_processor=m4c]"
    assert VQAAccuracy("always", "min3").name == "vqa_accuracy[normalize=always,aggregation=min3]"


def test_the_metric_scores_under_its_options() -> None:
    official = ItemMetric(VQAAccuracy())
    always = ItemMetric(VQAAccuracy(normalize="always", aggregation="min3"))
    for metric in (official, always):
        metric.update(["Yes", "red"], [["yes"] * 10, ten(1)], ["1", "2"])
    assert official.per_item() == {"1": 0.0, "2": 0.3}
    assert always.per_item() == {"1": 1.0, "2": 1 / 3}
