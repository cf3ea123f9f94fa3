"""Tests of the choice of pairs: best against worst, and what can stand in no pair."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vlm_lit.errors import ConfigError
from vlm_lit.training.pairing.answers_file import SampledAnswer
from vlm_lit.training.pairing.choosing import ChosenPairs, JudgedAnswer, PairSettings, chosen_pairs
from vlm_lit.training.pairing.pair_report import PairReport

Said = tuple[str, float | None]


def judged(said: Sequence[Said], *, unfinished: Sequence[str] = ()) -> list[JudgedAnswer]:
    """Answers with their scores; each word of one is a token."""
    return [
        JudgedAnswer(
            sampled=SampledAnswer(id="q", sample=k, prompt="p", answer=text, unfinished=text in unfinished),
            tokens=len(text.split()),
            score=score,
        )
        for k, (text, score) in enumerate(said)
    ]


def pairs(
    said: Sequence[Said], *, unfinished: Sequence[str] = (), higher_is_better: bool = True, **settings: float
) -> list[tuple[str, str]] | str:
    """The chosen and rejected words of each pair, or why there is none."""
    answers = judged(said, unfinished=unfinished)
    found = chosen_pairs(answers, PairSettings(**settings), higher_is_better=higher_is_better)  # type: ignore[arg-type]
    assert bool(found.pairs) is not bool(found.without)
    return found.without or [(pair.chosen.text, pair.rejected.text) for pair in found.pairs]


FOUR: list[Said] = [("one", 0.5), ("two", 1.0), ("three", 0.0), ("four", 0.25)]


def test_the_best_is_chosen_and_the_worst_rejected() -> None:
    assert pairs(FOUR) == [("two", "three")]
    assert pairs(FOUR, higher_is_better=False) == [("three", "two")]


def test_several_pairs_have_no_answer_in_common() -> None:
    assert pairs(FOUR, pairs=2) == [("two", "three"), ("one", "four")]
    assert pairs(FOUR, pairs=9) == [("two", "three"), ("one", "four")]
    assert pairs([("a", 1.0), ("b", 0.0), ("c", 0.0)], pairs=3) == [("a", "b")]


def test_answers_that_score_the_same_make_no_pair() -> None:
    assert pairs([("a", 0.5), ("b", 0.5), ("c", 0.5)]) == "tie"
    assert pairs([("a", 0.0), ("b", 0.0)], higher_is_better=False) == "tie"


def test_pairs_differ_by_the_margin_at_least() -> None:
    assert pairs(FOUR, margin=0.5, pairs=9) == [("two", "three")]
    assert pairs([("a", 0.4), ("b", 0.1)], margin=0.3) == [("a", "b")]
    assert pairs([("a", 0.4), ("b", 0.2)], margin=0.3) == "margin"


def test_the_sides_may_be_asked_to_be_about_equally_long() -> None:
    said: list[Said] = [("a", 1.0), ("b b b", 0.0), ("c c", 0.5), ("d d", 0.25)]
    assert pairs(said) == [("a", "b b b")]
    assert pairs(said, length_ratio=2) == [("a", "d d")]
    assert pairs(said, length_ratio=1.5) == [("c c", "b b b")]
    assert pairs(said, length_ratio=1) == [("c c", "d d")]
    assert pairs(said[:2], length_ratio=2) == "length"


def test_of_equal_scores_the_most_alike_lengths_are_paired() -> None:
    assert pairs([("a", 1.0), ("b b b", 0.0), ("c", 0.0)]) == [("a", "c")]
    assert pairs([("a", 1.0), ("b", 0.0), ("c", 0.0)]) == [("a", "b")]  # then the first drawn


def test_what_cannot_be_learned_stands_in_no_pair() -> None:
    said: list[Said] = [("a", 1.0), ("cut", 0.0), ("", 0.0), ("c", None), ("b", 0.5)]
    assert pairs(said, unfinished=["cut"]) == [("a", "b")]
    assert pairs(said[:4], unfinished=["cut"]) == "answers"
    assert pairs([("a", 1.0), ("a", 1.0)]) == "answers"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"margin": 1.5}, "--margin is 1.5"),
        ({"margin": float("nan")}, "--margin is nan"),
        ({"pairs": 0}, "--pairs_per_question is 0"),
        ({"length_ratio": 0.5}, "--length_ratio is 0.5"),
        ({"length_ratio": float("nan")}, "--length_ratio is nan"),
    ],
)
def test_settings_that_make_no_pair_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PairSettings(**settings)  # type: ignore[arg-type]


def test_the_report_counts_everything_once() -> None:
    report = PairReport()
    asked: list[list[Said]] = [FOUR, [("a", 0.5), ("b b", 0.5)], [("", 0.5), ("c", None)]]
    for said in asked:
        answers = judged(said)
        found: ChosenPairs = chosen_pairs(answers, PairSettings(), higher_is_better=True)
        report.add(answers, found)
    assert report.lines("metric") == [
        "prompts     3",
        "answers     8, metric 0.464 on average",
        "  not used  1 empty",
        "  not used  1 left out by the metric",
        "pairs       1",
        "  ties      1 prompts: all answers score the same",
        "  no pair   1 prompts: fewer than two different answers that can be used",
        "chosen      metric 1.000, 1.0 tokens",
        "rejected    metric 0.000, 1.0 tokens",
    ]
