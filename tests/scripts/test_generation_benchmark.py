"""Tests of the benchmark of generation: what its two ways are compared by, and how the table says it."""

from __future__ import annotations

import argparse
from functools import partial

import generation
import plots


def test_two_ways_take_turns_and_the_table_says_how_they_compare() -> None:
    turns: list[str] = []

    def way(name: str) -> list[list[int]]:
        turns.append(name)
        sum(range(10_000))  # some processor time
        return [[1, 2], [3]]

    given = argparse.Namespace(
        long=False, apart=False, choices=0, output=None, repeats=2, kv_heads=1, questions=5, tokens=8, batch=8
    )
    ways: generation.Ways = {name: partial(way, name) for name in ("slow", "fast")}
    result = generation.measured(ways, given)
    assert turns == ["slow", "fast"] * 3, "the first of each warms up"
    assert result["identical"]
    row = plots.generation_table({"results": [result]}).splitlines()[-1]
    assert row.startswith("| 5 questions an image, 8 tokens an answer | 8, 1 | slow, fast | ")
    other = generation.measured({"slow": lambda: [[1]], "fast": lambda: [[2]]}, given)
    assert plots.generation_table({"results": [other]}).endswith("| no |")
