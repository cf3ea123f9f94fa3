"""ViLT's own score of an answer, beside VQA accuracy."""

from __future__ import annotations

import pytest

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer
from vlm_lit.metrics.vilt_score import vilt_score
from vlm_lit.metrics.vqa_accuracy import vqa_score


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_the_table_of_the_original_code(matches: int, expected: float) -> None:
    references = ["red"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert vilt_score("red", references) == expected


def test_references_are_compared_letter_by_letter_unlike_in_vqa_accuracy() -> None:
    references = ["Red."] * 5 + ["red"] * 2 + ["blue"] * 3
    assert vilt_score("red", references) == 0.6
    assert vqa_score("red", references) == 1.0


def test_a_single_reference_is_right_or_wrong() -> None:
    assert vilt_score("red", ["red"]) == 1.0
    assert vilt_score("blue", ["red"]) == 0.0


def test_it_is_a_metric_by_name() -> None:
    assert rule("vilt_score").score(Answer("red", ["red"] * 2 + ["blue"] * 8)) == 0.6


def test_no_reference_is_refused() -> None:
    with pytest.raises(VlmLitError, match="at least one reference"):
        vilt_score("red", [])
