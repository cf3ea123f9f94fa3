"""Tests of the summary: one judgement for a file, for ranks and for a metric, each item counted once."""

from __future__ import annotations

import random

import pytest

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer
from vlm_lit.metrics.summary import JudgedItem, judged_item, summarised

ANSWERS = [
    Answer(
        prediction=random.Random(i).choice(["yes", "no", "no."]),
        references=["yes" if i % 3 else "no"],
        id=f"q{i}",
        groups={"category": "random" if i % 2 else "popular", "a-b": "x", "a": "b/c"},
    )
    for i in range(40)
]


@pytest.mark.parametrize("name", ["pope", "exact_match", "bleu", "answer_length"])
def test_a_metric_over_batches_says_what_the_summary_says(name: str) -> None:
    metric, items = ItemMetric(rule(name)), [judged_item(rule(name), a, "here") for a in ANSWERS]
    for a in [*ANSWERS[20:], *ANSWERS[:25]]:
        metric.update([a.prediction], [a.references], [a.id], [a.groups])
    found = summarised(rule(name), items)
    assert list(metric.compute().items()) == list(found.by_name().items())
    assert metric.per_item() == found.scores


def test_groups_are_nested_in_order_and_named_in_order() -> None:
    items = [judged_item(rule("exact_match"), a, "here") for a in ANSWERS]
    found = summarised(rule("exact_match"), [*items, *items[:7]])
    assert (found.whole.n, found.left_out, found.unparsed) == (40, 0, 0)
    assert {group: list(parts) for group, parts in found.groups.items()} == {
        "a": ["b/c"], "a-b": ["x"], "category": ["popular", "random"],
    }  # fmt: skip
    assert list(found.by_name()) == ["overall", "a-b/x", "a/b/c", "category/popular", "category/random"]


def test_what_a_rule_leaves_out_is_counted_and_scores_nothing() -> None:
    items = [
        judged_item(
            rule("aokvqa"), Answer("red", ["red"] * 3, str(i), groups={"difficult_direct_answer": flag}), "here"
        )
        for i, flag in enumerate(["true", "false"])
    ]
    found = summarised(rule("aokvqa"), items)
    assert (found.whole.n, found.left_out, dict(found.scores)) == (1, 1, {"1": 1.0})
    with pytest.raises(VlmLitError, match="aokvqa has no items to average"):
        summarised(rule("aokvqa"), items[:1])


def test_one_id_with_two_judgements_is_refused() -> None:
    items = [JudgedItem("a", (1.0,)), JudgedItem("a", (0.0,))]
    with pytest.raises(VlmLitError, match=r"exact_match: the id 'a' came twice, judged 1\.0 and then 0\.0"):
        summarised(rule("exact_match"), items)


def test_an_item_that_cannot_be_judged_is_named_by_its_place() -> None:
    with pytest.raises(VlmLitError, match=r"answers\.jsonl, record 3: Exact match needs at least one reference"):
        judged_item(rule("exact_match"), Answer("red", [], "q3"), "answers.jsonl, record 3")
