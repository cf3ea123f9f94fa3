"""Tests of dealing: each item on one rank, those of an image together, the ranks about equally loaded."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.data.answers.evaluation_batches import evaluation_batches
from vlm_lit.data.dealing import Dealing, ItemCost, ItemSize, dealt
from vlm_lit.data.item_costs import UNCOUNTED, item_costs
from vlm_lit.data.sampler import StepSampler

WORLDS = st.integers(1, 4)
ITEMS = st.lists(
    st.tuples(st.integers(1, 900), st.integers(0, 2), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=40
)


def dealing(items: list[tuple[int, int, int | None]], *, rows: int = 1, shared: bool = True) -> Dealing:
    """Items as (words, images, key); one image is 100 tokens, and items of one key show equally many."""
    shown = {key: images for _, images, key in items}
    costs = [ItemCost(words, shown[key] if key is not None else images, 100 * images) for words, images, key in items]
    return Dealing(costs=costs, keys=[key for _, _, key in items], shared=shared, rows=rows)


@given(items=ITEMS, world=WORLDS, rows=st.integers(1, 5), shared=st.booleans())
def test_every_item_is_on_one_rank_and_those_of_an_image_on_the_same(
    items: list[tuple[int, int, int | None]], world: int, rows: int, shared: bool
) -> None:
    order = random.Random(len(items)).sample(range(len(items)), len(items))
    shares = dealing(items, rows=rows, shared=shared).shares(order, world)
    assert len(shares) == world
    assert sorted(i for share in shares for i in share) == list(range(len(items)))
    for share in shares:
        assert share == sorted(share, key=order.index)  # as the step batch has them
    for key in {key for _, _, key in items if key is not None}:
        assert sum(any(items[i][2] == key for i in share) for share in shares) == 1


@given(items=ITEMS, rows=st.integers(1, 5))
def test_one_rank_has_the_step_batch_as_it_is(items: list[tuple[int, int, int | None]], rows: int) -> None:
    order = random.Random(len(items)).sample(range(len(items)), len(items))
    assert dealing(items, rows=rows).shares(order, 1) == [order]


@given(items=ITEMS, world=WORLDS, shared=st.booleans())
def test_no_rank_is_above_the_mean_by_more_than_the_largest_group(
    items: list[tuple[int, int, int | None]], world: int, shared: bool
) -> None:
    deals = dealing(items, shared=shared)
    shares = deals.shares(range(len(items)), world)
    keys = {key if key is not None else f"alone {i}" for i, (_, _, key) in enumerate(items)}
    members = [[i for i, item in enumerate(items) if (f"alone {i}" if item[2] is None else item[2]) == k] for k in keys]
    largest = max(deals.loads(members))
    loads = deals.loads(shares)
    assert sum(loads) == pytest.approx(sum(deals.loads(members)))  # without padding nothing depends on the neighbours
    assert max(loads) <= mean(loads) + largest * (1 - 1 / world) + 1e-6


def by_count(items: list[int], world: int) -> list[list[int]]:
    return [items[len(items) * r // world : len(items) * (r + 1) // world] for r in range(world)]


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 4])
def test_ranks_are_closer_together_than_by_count(world: int, rows: int) -> None:
    drawn = random.Random(3)
    items = [(int(drawn.lognormvariate(4, 1)) + 1, drawn.choice((0, 1, 1, 2)), None) for _ in range(800)]
    deals = dealing([*items], rows=rows)
    spreads: dict[str, list[float]] = {"dealt": [], "by count": []}
    busiest: dict[str, list[float]] = {"dealt": [], "by count": []}
    for at in range(0, len(items), 32):
        batch = list(range(at, at + 32))
        for name, shares in (("dealt", deals.shares(batch, world)), ("by count", by_count(batch, world))):
            loads = deals.loads(shares)
            spreads[name].append(max(loads) / mean(loads) - 1)
            busiest[name].append(max(loads))
    # Of 32 rows 8 or more fall to a rank; the largest is a few hundred tokens of several thousand.
    assert mean(spreads["dealt"]) < 0.25 * mean(spreads["by count"])
    assert mean(spreads["dealt"]) < 0.1
    # What the step takes; rows of alike length together pad less as well.
    assert mean(busiest["dealt"]) < (0.95 if rows == 1 else 0.9) * mean(busiest["by count"])


def test_padding_counts_as_the_collator_makes_it() -> None:
    # Rows of 10, 20, 30 and 40 tokens, two a micro-batch: 2 x 20 + 2 x 40. A text and a pictured row never share one.
    deals = Dealing(costs=[ItemCost(n) for n in (10, 20, 30, 40)], rows=2, tower=0.0)
    assert deals.loads([[3, 1, 0, 2]]) == [120.0]
    mixed = Dealing(costs=[ItemCost(10), ItemCost(10, 1, 90)], rows=2, tower=0.5)
    assert mixed.loads([[0, 1]]) == [10 + 100 + 45]


def test_questions_of_an_image_cost_it_once_where_they_share_a_row() -> None:
    costs = [ItemCost(10, 1, 100)] * 3
    apart, together = (Dealing(costs=costs, keys=["a"] * 3, shared=shared, tower=0.0) for shared in (False, True))
    assert (apart.loads([[0, 1, 2]]), together.loads([[0, 1, 2]])) == ([330.0], [130.0])


@given(world=st.integers(2, 4), start=st.integers(0, 7))
def test_all_ranks_see_one_step_batch_at_any_step(world: int, start: int) -> None:
    drawn = random.Random(world)
    costs = [ItemCost(drawn.randrange(1, 500)) for _ in range(30)]
    options = {"effective_batch": 7, "steps": 8, "seed": 1, "dealing": Dealing(costs=costs, rows=2)}
    whole = StepSampler(30, effective_batch=7, steps=8, seed=1)
    ranks = [StepSampler(30, **options, start=start, rank=r, world=world) for r in range(world)]  # type: ignore[arg-type]
    for step, shares in enumerate(zip(*ranks, strict=True), start=start):
        assert sorted(i for share in shares for i in share) == sorted(whole.indices(step))


def test_questions_are_dealt_by_what_they_cost_and_none_is_asked_twice() -> None:
    keys = [i // 3 for i in range(12)]
    costs = [ItemCost(1000 if i < 3 else 10, 1, 50) for i in range(12)]
    shares = [evaluation_batches(12, keys, 4, rank=r, world=2, costs=costs) for r in range(2)]
    assert shares == [[[0, 1, 2]], [[3, 4, 5], [6, 7, 8], [9, 10, 11]]]


@given(costs=st.lists(st.floats(0, 1e3), max_size=30), world=WORLDS)
def test_pieces_are_dealt_once(costs: list[float], world: int) -> None:
    shares = dealt(costs, world)
    assert sorted(i for share in shares for i in share) == list(range(len(costs)))
    loads = [sum(costs[i] for i in share) for share in shares]
    assert max(loads) <= sum(costs) / world + max(costs, default=0.0) + 1e-6


def test_where_no_processor_counts_an_image_is_taken_for_one_of_llavas() -> None:
    sizes = [ItemSize(5), ItemSize(7, ((30, 40), None))]
    assert item_costs(sizes, None) == [ItemCost(5, 0, 0), ItemCost(7, 2, 2 * UNCOUNTED)]
    assert item_costs(None, None) is None
