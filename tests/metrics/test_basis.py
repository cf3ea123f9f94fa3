"""Tests of what a score rests on: references are counted, and misses of spelling told from others."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from vlm_lit.metrics.basis import NearMisses, ReferenceCounts, near_misses, reference_counts

KINDS = ("case", "full_stop", "article", "number_word", "any_of_these")


def test_references_are_counted_over_the_questions_that_have_any() -> None:
    assert reference_counts([["a"], [], ["a", "b", "c"]]) == ReferenceCounts(1, 2.0, 3)
    assert reference_counts([[]]) is None


@pytest.mark.parametrize(
    ("prediction", "reference", "kinds"),
    [
        ("yes", "Yes", ["case", "any_of_these"]),
        ("blue.", "blue", ["full_stop", "any_of_these"]),
        ("blue", "blue.", ["full_stop", "any_of_these"]),
        ("The lamp", "lamp", ["article", "any_of_these"]),
        ("Two", "2", ["number_word", "any_of_these"]),
        ("A Lamp.", "lamp", ["any_of_these"]),
        ("lamp", "lamps", []),
        ("blue..", "blue", []),
        ("a.b", "ab", []),
        ("a", "the", []),
        ("", ".", []),
        (" blue", "blue", []),
        ("none of them", "0 of them", ["number_word", "any_of_these"]),
    ],
)
def test_what_a_miss_differs_in(prediction: str, reference: str, kinds: list[str]) -> None:
    found = asdict(near_misses([(prediction, ["nothing like it", reference], 0.0)]))
    assert found == {"n": 1, **{kind: int(kind in kinds) for kind in KINDS}}


def test_only_what_scores_nothing_is_a_miss() -> None:
    judged = [("yes", ["Yes"], 0.3), ("yes", ["Yes"], None), ("yes", ["Yes"], 1.0), ("no", ["yes"], 0.0)]
    assert near_misses(judged) == NearMisses(n=1)
    assert not NearMisses(n=1).as_text("anls")


def test_near_misses_are_said_in_one_line() -> None:
    found = near_misses([("yes", ["Yes"], 0.0), ("Blue.", ["blue"], 0.0), ("up", ["down"], 0.0)])
    assert found.as_text("exact_match") == (
        "2 of the 3 answers that exact_match scores 0 are a reference but for case, a final full stop, an article or a "
        "number word: 1 in case alone, 1 in several of these."
    )
