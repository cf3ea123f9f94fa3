"""Tests of every metric in the catalogue: no value depends on order, batches, repeats or ranks."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.catalogue import RULES, metric
from vlm_lit.metrics.rules import Answer

WORLD_SIZE = 2
OPTIONS: dict[str, dict[str, object]] = {
    "multiple_choice": {"fallback": "random", "seed": 5},
    "pope": {"parser": "exact"},
    "number": {"absolute": 1.0},
    "json_fields": {"rules": "a=number"},
}
TEXTS = [
    "yes",
    "No",
    "B",
    "(C) a red car",
    "5%",
    "0.05",
    "a red car on the left side",
    "red car, left",
    "",
    "The answer is A.",
    '{"a": 1, "b": "yes"}',
    "two of them",
]
CHOICES = ["a red car", "no", "5%"]


def items(name: str, replies: list[int]) -> list[Answer]:
    """One item a reply; its references fit the metric."""
    references = {
        "pope": [["yes"], ["no"]],
        "amber": [["yes"], ["no"]],
        "multiple_choice": [["A"], ["C"]],
        "mmmu": [["A"], ["C"]],
        "number": [["1"], ["2"]],
        "json_fields": [['{"a": 1}'], ['{"b": "yes"}']],
    }.get(name)
    references = references or [["red car", *["a red car on the left"] * 9], ["yes"] * 9 + ["No"]]
    return [
        Answer(TEXTS[r], references[i % 2], f"id {i}", CHOICES, {"category": "abc"[i % 3], "structural": "query"})
        for i, r in enumerate(replies)
    ]


def feed(to: ItemMetric, batch: list[Answer]) -> None:
    to.update(
        [a.prediction for a in batch],
        [a.references for a in batch],
        [a.id for a in batch],
        [a.groups for a in batch],
        [a.choices for a in batch],
    )


def values(name: str, *batches: list[Answer]) -> dict[str, float]:
    made = metric(name, OPTIONS.get(name, {}))
    for batch in batches:
        feed(made, batch)
    return made.compute()


@pytest.mark.parametrize("name", RULES)
@given(replies=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=8), data=st.data())
@settings(deadline=None, max_examples=15)
def test_order_batches_and_repeats_do_not_matter_to_the_last_bit(
    name: str, replies: list[int], data: st.DataObject
) -> None:
    given_items = items(name, replies)
    more = data.draw(st.lists(st.sampled_from(given_items), max_size=3))
    shuffled = data.draw(st.permutations(given_items)) + more
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=3)))
    batches = [shuffled[start:end] for start, end in pairwise([0, *cuts, len(shuffled)])]
    assert values(name, *batches) == values(name, given_items)


@pytest.mark.parametrize("name", [name for name, kind in RULES.items() if kind.is_score])
def test_scores_are_fractions_and_a_mean_is_the_mean_of_its_items(name: str) -> None:
    made = metric(name)
    feed(made, items(name, list(range(len(TEXTS)))))
    scores = made.per_item()
    assert len(scores) == len(TEXTS)
    assert all(0 <= score <= 1 for score in scores.values())
    if name != "bleu":  # a corpus' BLEU is no mean
        assert made.compute()["overall"] == pytest.approx(sum(scores.values()) / len(scores), abs=1e-12)


def on_each_rank(rank: int, store: str) -> dict[str, dict[str, float]]:
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE, timeout=timedelta(seconds=60)
    )
    found = {}
    for name in RULES:
        everything = items(name, list(range(len(TEXTS) - 1)))
        # Nine items for two ranks: the sampler gives the first once more.
        found[name] = values(name, [*everything, everything[0]][rank::WORLD_SIZE])
    dist.destroy_process_group()
    return found


@pytest.mark.slow
def test_two_ranks_have_the_values_of_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(WORLD_SIZE, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(on_each_rank, range(WORLD_SIZE), [str(tmp_path / "store")] * WORLD_SIZE))
    alone = {name: values(name, items(name, list(range(len(TEXTS) - 1)))) for name in RULES}
    assert results == [alone, alone]
