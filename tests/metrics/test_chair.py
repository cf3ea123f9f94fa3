"""Tests of CHAIR: hallucinated mentions and answers, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.catalogue import metric, rule
from vlm_lit.metrics.chair import CHAIR
from vlm_lit.metrics.rules import Answer, column_sums


def values(*answers: tuple[str, list[str]], **options: object) -> dict[str, float]:
    made = metric("chair", options)
    texts, references = [a for a, _ in answers], [r for _, r in answers]
    made.update(texts, references, [str(i) for i in range(len(answers))])
    return made.compute()


def test_worked_by_hand() -> None:
    # A man and a dog are there; a cat, named twice, is not. Then nothing wrong. Then nothing named.
    found = values(
        ("A man, a cat and another cat with a dog.", ["a man walks a dog", "person"]),
        ("A zebra.", ["two zebras by a tree", "a giraffe"]),
        ("It is blue.", ["a kite in the sky"]),
    )
    assert found == {
        "overall": pytest.approx(1 / 3),
        "chair_s": pytest.approx(1 / 3),
        "chair_i": pytest.approx(2 / 5),  # of person, cat, cat, dog, zebra
        "coverage": pytest.approx(3 / 5),  # person, dog, zebra of these, giraffe and kite
        "silent": pytest.approx(1 / 3),
        "mentions": pytest.approx(5 / 3),
    }


def test_the_truth_is_what_any_reference_names() -> None:
    judge = CHAIR()
    assert judge.true_objects(["a man rides", "Two bikes.", "traffic light", "bus"]) == {
        *("person", "bicycle", "traffic light", "bus"),
    }
    assert judge.score(Answer("a bicycle by a traffic light", ["two bikes", "traffic light"])) == 0
    assert judge.score(Answer("a bicycle by a traffic light", ["two bikes"])) == 1


def test_words_that_nobody_said_are_nothing_over_nothing() -> None:
    assert values(("blue", ["red"])) == {
        "overall": 0,
        "chair_s": 0,
        "chair_i": 0,
        "coverage": 0,
        "silent": 1,
        "mentions": 0,
    }


def test_an_image_of_nothing_makes_every_mention_a_hallucination() -> None:
    assert values(("a dog", ["the sky"]))["chair_i"] == 1


def test_no_references_are_refused() -> None:
    with pytest.raises(VlmLitError, match="CHAIR needs at least one reference"):
        CHAIR().counts(Answer("a dog", []))


def test_what_is_compared() -> None:
    answer = Answer("a dog, a dog and a cat", ["two men", "a man with a dog"])
    assert CHAIR().compared(answer) == ("cat, dog", ["dog, person"])
    assert CHAIR().compared(Answer("red", ["blue"])) == ("", [""])


def test_less_is_better() -> None:
    assert not CHAIR.higher_is_better


def test_own_objects_and_the_name_they_give_it(tmp_path: Path) -> None:
    for folder, words in (("a", {"hammer": ["hammers"]}), ("b", {"hammer": ["hammers"]}), ("c", {"saw": ["saws"]})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "objects.json").write_text(json.dumps(words), encoding="utf-8")
    first, same, other = (rule("chair", {"objects": str(tmp_path / x / "objects.json")}) for x in "abc")
    assert first.name == same.name != other.name
    assert "/" not in first.name.removeprefix("chair")
    assert first.name.startswith("chair[objects=objects-")
    assert first.score(Answer("two hammers", ["a lamp"])) == 1
    assert other.score(Answer("two hammers", ["a lamp"])) == 0
    assert rule("chair").name == "chair"


def test_a_broken_table_is_found_before_anything_is_judged() -> None:
    with pytest.raises(ConfigError, match=r"chair: objects is 'nowhere.json'; there is no such file."):
        rule("chair", {"objects": "nowhere.json"})
    with pytest.raises(ConfigError, match=r"chair: objects is 5; it must be text."):
        rule("chair", {"objects": 5})


WORDS = st.lists(st.sampled_from(["dog", "cats", "a", "and", "bus", "buses", "toilet", "seat", "red", ","]), max_size=9)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_an_answer_that_says_a_reference_again_is_no_hallucination(said: list[str], others: list[list[str]]) -> None:
    references = [" ".join(words) for words in (said, *others)]
    judge = CHAIR()
    wrong, wrong_mentions, *_ = judge.counts(Answer(references[0], references))
    assert wrong == wrong_mentions == 0


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_the_figures_hang_together(answers: list[tuple[list[str], list[str]]]) -> None:
    judge = CHAIR()
    counts = [judge.counts(Answer(" ".join(said), [" ".join(true)])) for said, true in answers]
    found = judge.values(column_sums(counts), len(counts))
    assert all(0 <= value <= 1 for name, value in found.items() if name != "mentions")
    assert (found["chair_i"] > 0) == (found["chair_s"] > 0)
    assert found["chair_s"] + found["silent"] <= 1 + 1e-9
