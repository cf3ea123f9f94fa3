"""Tests of mixtures: sources visited by weight, records evenly, and the same ones after a resumption."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.data.mixture import Mixture
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.sampler import StepSampler, epoch_order
from vlm_lit.errors import ConfigError


def mixture(sizes: tuple[int, ...], weights: tuple[float, ...]) -> Mixture:
    return Mixture(tuple("abcdef"[: len(sizes)]), sizes, weights)


SOURCES = st.lists(st.tuples(st.integers(1, 12), st.floats(0.01, 100)), min_size=1, max_size=4)


@given(sources=SOURCES, seed=st.integers(0, 5), passes=st.integers(1, 5))
def test_visits_are_exact_and_even(sources: list[tuple[int, float]], seed: int, passes: int) -> None:
    sizes, weights = zip(*sources, strict=True)
    mixed = mixture(sizes, weights)
    assert sum(mixed.visits) == sum(sizes)
    whole = sum(map(Fraction, weights))
    for count, weight in zip(mixed.visits, weights, strict=True):
        assert abs(count - sum(sizes) * Fraction(weight) / whole) < 1
    seen = Counter(i for epoch in range(passes) for i in epoch_order(sum(sizes), seed, epoch, mixture=mixed))
    begin = 0
    for size, count in zip(sizes, mixed.visits, strict=True):
        of_source = [seen[i] for i in range(begin, begin + size)]
        assert sum(of_source) == passes * count
        assert max(of_source) - min(of_source) <= 1
        begin += size


def test_one_weight_for_all_sizes_visits_each_record_once() -> None:
    assert sorted(epoch_order(7, 0, 3, mixture=mixture((2, 5), (2, 5)))) == list(range(7))


def test_a_resumed_run_goes_on_with_the_same_records() -> None:
    options: dict[str, Any] = {"effective_batch": 4, "steps": 12, "seed": 1, "mixture": mixture((3, 17), (1, 1))}
    whole = list(StepSampler(20, **options))
    assert list(StepSampler(20, start=5, **options)) == whole[5:]
    ranks = [list(StepSampler(20, rank=r, world=2, **options)) for r in range(2)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(step) for step in whole]
    assert sum(i < 3 for effective_batch in whole[:5] for i in effective_batch) == 10


def test_a_row_shows_no_record_twice() -> None:
    mixed = mixture((2, 18), (9, 1))
    order = epoch_order(20, 0, 0, ["x"] * 2 + [None] * 18, 4, mixed)
    assert Counter(order)[0] == Counter(order)[1] == 9
    groups = [order[k : k + 2] for k in range(len(order) - 1)]
    assert any(set(pair) == {0, 1} for pair in groups)


def opened(path: list[str] | str, *, train: bool = True, **more: Any) -> ConversationDataset:
    source = SourceSettings(path=path, **more)
    data = open_source(source, prompt=None, system=None, requires_answer=train, check_images=True)
    assert isinstance(data, ConversationDataset)
    return data


def files(folder: Path) -> list[str]:
    paths = []
    for name, n in (("few", 2), ("many", 6)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps([{"question": f"{name} {k}?", "answer": "x"} for k in range(n)]), encoding="utf-8")
        paths.append(str(path))
    return paths


def test_a_sources_weights_are_read_and_reported(tmp_path: Path) -> None:
    data = opened(files(tmp_path), weights=[1, 1])
    assert data.mixture is not None
    assert data.mixture.visits == (4, 4)
    assert [line.rpartition("/")[2] for line in data.mixture.lines()] == [
        "few.json: 4 of 8 visits an epoch (50.00%), 2 for each of its 2 records.",
        "many.json: 4 of 8 visits an epoch (50.00%), 0.667 for each of its 6 records.",
    ]
    assert opened(files(tmp_path)).mixture is None


@pytest.mark.parametrize(
    "options",
    [{"weights": [1]}, {"weights": [1, 0]}, {"weights": [1, -1]}, {"weights": [1, 1], "limit": 2},
     {"weights": [1, 1], "streaming": True}, {"weights": [1, 1], "train": False}, {"weights": [1, float("inf")]}],
    ids=str,
)  # fmt: skip
def test_weights_that_cannot_be_kept_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"weight|mix"):
        opened(files(tmp_path), **options)
    with pytest.raises(ConfigError, match="list"):
        opened(files(tmp_path)[0], weights=[1])
