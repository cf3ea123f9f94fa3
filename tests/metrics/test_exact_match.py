"""Tests of exact match, and of what each of its options ignores."""

import pytest

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.string_match import ExactMatch, exact_match


def test_every_character_counts_by_default() -> None:
    assert exact_match("red", ["red"]) == 1.0
    for other in ("Red", "red.", "the red", " red", "red "):
        assert exact_match(other, ["red"]) == 0.0


def test_any_reference_will_do() -> None:
    assert exact_match("red", ["crimson", "red"]) == 1.0
    assert exact_match("red", ["crimson", "scarlet"]) == 0.0


def test_ignore_case() -> None:
    assert exact_match("Red", ["rED"], ignore_case=True) == 1.0
    assert exact_match("Red.", ["red"], ignore_case=True) == 0.0


@pytest.mark.parametrize("prediction", ["red car.", "'red' car", "red - car", "red  car!"])
def test_ignore_punctuation(prediction: str) -> None:
    assert exact_match(prediction, ["red car"], ignore_punctuation=True) == 1.0


def test_ignored_punctuation_leaves_no_blank() -> None:
    assert exact_match("red-car", ["redcar"], ignore_punctuation=True) == 1.0
    assert exact_match("red-car", ["red car"], ignore_punctuation=True) == 0.0


def test_ignore_articles_in_any_case_but_keep_the_case_of_words() -> None:
    assert exact_match("The  red car", ["red a car"], ignore_articles=True) == 1.0
    assert exact_match("The Red car", ["red car"], ignore_articles=True) == 0.0
    assert exact_match("theatre", ["atre"], ignore_articles=True) == 0.0


def test_punctuation_goes_before_articles() -> None:
    assert exact_match('"the" cat', ["cat"], ignore_punctuation=True, ignore_articles=True) == 1.0
    assert exact_match('"the" cat', ["cat"], ignore_articles=True) == 0.0


def test_no_references_are_refused() -> None:
    with pytest.raises(VlmLitError, match="at least one reference"):
        exact_match("red", [])


def test_the_name_carries_the_options() -> None:
    assert ExactMatch().name == "exact_match"
    assert ExactMatch(ignore_case=True).name == "exact_match[ignore_case]"
    named = ExactMatch(ignore_case=True, ignore_punctuation=True, ignore_articles=True).name
    assert named == "exact_match[ignore_case,ignore_punctuation,ignore_articles]"


def test_the_metric_scores_under_its_options() -> None:
    metric = ItemMetric(ExactMatch(ignore_case=True))
    metric.update(["Red", "red."], [["red"], ["red"]], ["1", "2"])
    assert metric.per_item() == {"1": 1.0, "2": 0.0}
