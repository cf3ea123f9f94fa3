"""Tests of confusion tables: every answer is in one cell, under the answer the metric takes it for."""

from __future__ import annotations

import pytest

from vlm_lit.metrics.catalogue import RULES, rule
from vlm_lit.metrics.confusion import Confusion, confusions
from vlm_lit.metrics.rules import Answer


def answer(prediction: str, *references: str, **groups: str) -> Answer:
    return Answer(prediction, references, groups=groups)


def only(name: str, *answers: Answer, most: int = 20, **options: object) -> Confusion:
    (found,) = confusions(rule(name, options), answers, most)
    return found


def test_rows_are_true_and_columns_predicted_the_last_one_for_all_other_answers() -> None:
    found = only(
        "exact_match", answer("a", "a"), answer("b", "a"), answer("c", "a"), answer("d", "b"), answer("c", "b")
    )
    assert (found.group, found.answers) == ("overall", ("a", "b"))
    assert found.counts == ((1, 1, 1), (0, 0, 2))
    assert found.others == {"c": 2, "d": 1}
    assert found.n == 5


def test_the_most_common_answer_comes_first_and_of_equals_the_alphabet_decides() -> None:
    found = only("exact_match", answer("b", "b"), answer("c", "c"), answer("a", "a"), answer("c", "c"))
    assert found.answers == ("c", "a", "b")


def test_numbers_stand_in_their_order() -> None:
    found = only("exact_match", *(answer("2", true) for true in ("10", "2", "2", "2", "-1", "0.5")))
    assert found.answers == ("-1", "0.5", "2", "10")


def test_of_ten_annotators_the_most_common_answer_is_the_true_one_as_the_metric_normalises() -> None:
    # `two` and `2` are one answer of six people.
    found = only("vqa_v2", answer("two", *["three"] * 4, *["two"] * 3, *["2"] * 3))
    assert (found.answers, found.counts) == (("2",), ((1, 0),))


def test_of_equally_common_answers_the_one_that_stands_first_is_the_true_one() -> None:
    tied = ["red", "blue", *["blue", "red"] * 4]
    assert only("vqa_v2", answer("red", *tied)).answers == ("red",)
    assert only("vqa_v2", answer("red", *tied[1:], tied[0])).answers == ("blue",)


def test_unanimous_references_are_compared_raw_as_in_the_official_metric() -> None:
    found = only("vqa_v2", answer("Yes", *["yes"] * 10))
    assert (found.counts, found.others) == (((0, 1),), {"Yes": 1})
    assert only("vqa_v2", answer("Yes", *["yes"] * 10), normalize="always").counts == ((1, 0),)


def test_an_answer_called_other_is_not_the_other_answers() -> None:
    found = only("exact_match", answer("(other)", "(other)"), answer("x", "(other)"))
    assert found.counts == ((1, 1),)


def test_an_empty_answer_is_counted() -> None:
    assert only("exact_match", answer("", "a")).others == {"": 1}


def test_what_the_metric_leaves_out_or_cannot_judge_is_not_counted() -> None:
    left_out = answer("a", "a", difficult_direct_answer="true")
    assert only("aokvqa", left_out, answer("a", "a"), answer("a")).n == 1
    assert confusions(rule("exact_match"), [answer("a")]) == []


def many(n: int, **groups: str) -> list[Answer]:
    return [answer(str(i), str(i), **groups) for i in range(n)]


def test_twenty_true_answers_are_a_table_and_more_are_none() -> None:
    assert len(only("exact_match", *many(20)).answers) == 20
    assert confusions(rule("exact_match"), many(21)) == []


def test_with_more_answers_each_breakdown_that_has_few_enough_is_a_table() -> None:
    words = [answer(w, w, answer_type="yes/no", kind="exists") for w in ("yes", "no", "yes")]
    same = [answer("up", "up", kind="always up")] * 3
    found = confusions(rule("exact_match"), [*many(25, answer_type="other"), *words, *same])
    # `kind/exists` has the same items as `answer_type/yes/no`; `kind/always up` has one true answer.
    assert [(c.group, c.n) for c in found] == [("answer_type/yes/no", 3)]


RIGHT_OR_WRONG = sorted(RULES.keys() - {"anls", "bleu", "rouge_l", "answer_length", "chair"})
TEXTS = [
    "yes",
    "Yes.",
    "no",
    "No",
    "B",
    "(C) a red car",
    "a red car",
    "5%",
    "0.05",
    "0.051",
    "5",
    "the red, car",
    "2",
    "two",
    "",
    '{"b": "c", "a": 1.0}',
]
REFERENCES = {
    "pope": ["yes", "no"],
    "amber": ["yes", "no"],
    "multiple_choice": ["A", "B", "C"], "mmmu": ["A", "B", "C"], "number": ["5", "2", "0.05"],
    "json_fields": ['{"a": 1, "b": "c"}'],
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT_OR_WRONG)
def test_on_the_diagonal_is_what_the_metric_takes_for_right(name: str) -> None:
    judge, seen = rule(name), set()
    for text in TEXTS:
        for reference in REFERENCES.get(name, [*TEXTS]):
            references = [reference] * (10 if name in ("textvqa", "aokvqa", "vizwiz") else 1)
            given = Answer(text, references, choices=("yes", "a red car", "5%") if name in REFERENCES else ())
            predicted, true = judge.compared(given)
            seen.add(judge.score(given) == 1)
            assert (predicted == true[0]) == (judge.score(given) == 1), (text, reference)
    assert seen == {False, True}


def test_an_open_question_of_mmmu_is_compared_by_its_reply() -> None:
    found = only("mmmu", answer("The answer is 12.", "12"), answer("13", "12"))
    assert (found.counts, found.others) == (((1, 1),), {"13": 1})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("exact_match", {"ignore_case": True, "ignore_punctuation": True, "ignore_articles": True}),
        ("gqa", {"processor": "llava"}),
        ("chartqa_relaxed", {"strip_prediction": True}),
        ("textvqa", {"normalizer": "vqa"}),
        ("pope", {"parser": "exact"}),
    ],
)
def test_options_of_the_metric_hold_in_the_table(name: str, options: dict[str, object]) -> None:
    judge = rule(name, options)
    for text in ("yes", "Yes.", " yes", "The yes!", "no"):
        given = answer(text, *["yes"] * (10 if name == "textvqa" else 1))
        predicted, true = judge.compared(given)
        assert (predicted == true[0]) == (judge.score(given) == 1), text
