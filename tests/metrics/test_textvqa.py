"""Tests of TextVQA accuracy: the worked examples of the definition."""

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.textvqa import TextVQAAccuracy, textvqa_score


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_every_annotator_is_left_out_once(matches: int, expected: float) -> None:
    assert textvqa_score("red", ["red"] * matches + ["blue"] * (10 - matches)) == expected


def test_unanimous_references_are_normalised_too() -> None:
    assert textvqa_score("Yes.", ["yes"] * 10) == 1.0


def test_the_normaliser_is_m4cs_unless_asked_otherwise() -> None:
    assert textvqa_score("red,blue", ["redblue"] * 10) == 1.0
    assert textvqa_score("red,blue", ["red blue"] * 10) == 0.0
    assert textvqa_score("red,blue", ["redblue"] * 10, normalizer="vqa") == 0.0
    assert textvqa_score("red,blue\n", ["red blue"] * 10, normalizer="vqa") == 1.0


@pytest.mark.parametrize("n", [0, 1, 9, 11])
def test_ten_references_are_needed(n: int) -> None:
    with pytest.raises(VlmLitError, match=f"ten reference answers, one per annotator, got {n}"):
        textvqa_score("red", ["red"] * n)


def test_options() -> None:
    assert TextVQAAccuracy().name == "textvqa"
    assert TextVQAAccuracy(normalizer="vqa").name == "textvqa[normalizer=vqa]"
    with pytest.raises(ConfigError, match="must be one of m4c, vqa"):
        textvqa_score("red", ["red"] * 10, normalizer="none")  # type: ignore[arg-type]
