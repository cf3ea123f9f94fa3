"""Tests of the soak's pure parts: its table hides nothing, and its comparison of two runs sees what differs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "soak"))

import soak
import soak_rows
import soak_runs


def test_the_table_shows_every_promise_those_that_broke_and_those_nobody_looked_at() -> None:
    broken = soak_rows.Row(promise=2, figure="3 kills", here="a step is missing", held=False)
    lines = soak_rows.table([broken]).splitlines()
    columns = [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]
    assert columns[0] == ["promise", "", "what was done", "here"]
    numbers = [cells[0].split(".")[0] for cells in columns if cells[0].split(".")[0].isdecimal()]
    assert numbers == [str(number) for number in soak_rows.PROMISES]
    assert ["BROKEN", "3 kills", "a step is missing"] in [cells[1:] for cells in columns]
    assert sum("not looked at in this soak" in line for line in lines) == len(soak_rows.PROMISES) - 1


def test_every_part_is_found() -> None:
    found = soak.parts()
    assert {"kill_soak", "kill_controls", "flat_soak", "tested_soak", "verb_kills"} <= set(found)
    assert not {"soak", "soak_rows", "soak_runs"} & set(found)


def test_a_step_that_is_missing_or_there_twice_is_named() -> None:
    whole = soak_runs.Trace({"train/loss": [(0, "a"), (1, "b"), (2, "c")]}, {}, "digest")
    other = soak_runs.Trace({"train/loss": [(0, "a"), (1, "b"), (1, "b")]}, {}, "digest")
    assert whole.differences(whole) == []
    assert whole.differences(other) == ["curve train/loss (1 missing, 1 twice of 3)"]
    assert whole.differences(soak_runs.Trace(whole.figures, {}, "another")) == ["the adapter"]
