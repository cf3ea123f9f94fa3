"""Tests of the sampler: a pure function of seed, epoch, step and rank, every conversation once an epoch."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.data.run_length import full_steps_per_epoch
from vlm_lit.data.sampler import StepSampler, epoch_order
from vlm_lit.errors import ConfigError


@given(n=st.integers(1, 40), effective_batch=st.integers(1, 9), passes=st.integers(1, 3), world=st.integers(1, 3))
def test_each_pass_sees_every_conversation_once(n: int, effective_batch: int, passes: int, world: int) -> None:
    steps = full_steps_per_epoch(n, effective_batch)
    ranks = [
        StepSampler(n, effective_batch=effective_batch, steps=steps * passes, seed=1, rank=r, world=world)
        for r in range(world)
    ]
    for epoch in range(passes):
        seen = [i for step in range(epoch * steps, (epoch + 1) * steps) for s in ranks for i in s.indices(step)]
        assert sorted(seen) == list(range(n))


@given(start=st.integers(0, 12), world=st.integers(1, 3))
def test_a_resumed_run_sees_what_the_first_would_have(start: int, world: int) -> None:
    def steps_from(begin: int) -> list[list[int]]:
        return list(StepSampler(10, effective_batch=4, steps=12, seed=3, start=begin, rank=world - 1, world=world))

    assert steps_from(start) == steps_from(0)[start:]


def test_ranks_share_one_window() -> None:
    whole = StepSampler(10, effective_batch=4, steps=3, seed=3)
    shares = [StepSampler(10, effective_batch=4, steps=3, seed=3, rank=r, world=2) for r in range(2)]
    for step in range(3):
        assert sorted(whole.indices(step)) == sorted(i for s in shares for i in s.indices(step))


def test_passes_and_seeds_differ_in_order() -> None:
    assert epoch_order(50, 1, 0) != epoch_order(50, 1, 1)
    assert epoch_order(50, 1, 0) != epoch_order(50, 2, 0)
    assert epoch_order(50, 1, 0) == epoch_order(50, 1, 0)


def test_a_limited_pass_starts_the_next_one_early() -> None:
    sampler = StepSampler(10, effective_batch=2, steps=4, seed=1, limit=2)
    assert sampler.indices(2) == list(epoch_order(10, 1, 1)[:2])


def test_no_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds no conversation"):
        StepSampler(0, effective_batch=1, steps=1, seed=0)


@given(
    groups=st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=40),
    most=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_what_shows_the_same_is_visited_in_runs(groups: list[int | None], most: int, epoch: int) -> None:
    order = epoch_order(len(groups), 1, epoch, groups, most)
    assert sorted(order) == list(range(len(groups)))
    runs = [len(list(run)) for key, run in groupby(order, key=lambda i: (groups[i], i if groups[i] is None else 0))]
    for key in {group for group in groups if group is not None}:
        size = groups.count(key)
        # As few runs as that many at a time make; two of one key may fall beside each other.
        assert sum(1 for k, _ in groupby(order, key=lambda i: groups[i]) if k == key) <= -(-size // most)
    assert sum(runs) == len(groups)


def test_a_window_mixes_pictures() -> None:
    groups = [i // 10 for i in range(100)]
    effective_batch = StepSampler(100, effective_batch=16, steps=6, seed=1, groups=groups, most=4).indices(0)
    assert len(effective_batch) == 16
    assert len({groups[i] for i in effective_batch}) >= 4


def test_ranks_share_a_window_of_runs_in_pieces() -> None:
    options = {"effective_batch": 12, "steps": 2, "seed": 1, "groups": [i // 4 for i in range(24)], "most": 4}
    whole = StepSampler(24, **options)  # type: ignore[arg-type]
    shares = [StepSampler(24, **options, rank=r, world=3).indices(0) for r in range(3)]  # type: ignore[arg-type]
    assert [i for share in shares for i in share] == whole.indices(0)
    assert [len(share) for share in shares] == [4, 4, 4]
