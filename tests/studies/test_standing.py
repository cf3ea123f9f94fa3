"""Tests of a study's progress: a cell's state from queue and record, the time left from finished cells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlm_lit.studies.running.cell import Cell
from vlm_lit.studies.running.cell_record import CellRecord, Status
from vlm_lit.studies.running.queue import State
from vlm_lit.studies.running.standing import CellState, in_time, standing
from vlm_lit.studies.running.standing import _state as state_of

RECORD = CellRecord(study="s", levels={}, seed=0, digest="", status="done", started="")


def state(name: State, seconds: float = 0.0) -> CellState:
    record = replace(RECORD, seconds={"fit": seconds}) if seconds else None
    return CellState(cell=Cell(levels={}, seed=0), state=name, record=record)


@pytest.mark.parametrize(("job", "status", "expected"), [
    ("waiting", None, "waiting"), ("running", None, "waiting"), ("running", "running", "running"),
    ("waiting", "running", "waiting"),  # its worker died
    ("running", "done", "done"),  # of a search's job: another seed runs
    ("failed", "failed", "failed"), ("waiting", "failed", "failed"), ("running", "failed", "waiting"),
])  # fmt: skip
def test_a_cells_state(job: State, status: Status | None, expected: State) -> None:
    assert state_of(job, None if status is None else replace(RECORD, status=status)) == expected


def test_counts_and_the_time_left() -> None:
    found = [state("done", 10), state("done", 30), state("failed", 5), state("running", 15), state("running", 50)]
    now = standing([*found, state("waiting"), state("waiting")], undrawn=1)
    assert (now.done, now.failed, now.running, now.waiting) == (2, 1, 2, 3)
    assert now.seconds_a_cell == 20.0
    assert now.seconds_left == (3 * 20 + 5 + 0) / 2
    assert now.as_text("s") == "s: 2 of 8 cells done, 1 failed, 2 running, 3 waiting, 20 s a cell, about 32 s left"


def test_nothing_is_said_of_time_that_is_not_known() -> None:
    assert (
        standing([state("running", 9), state("waiting")]).as_text("s") == "s: 0 of 2 cells done, 1 running, 1 waiting"
    )
    assert standing([state("done", 9)]).as_text("s") == "s: 1 of 1 cells done, 9 s a cell"


def test_times_in_words() -> None:
    assert [in_time(seconds) for seconds in (8.4, 99, 100, 720, 12_600)] == ["8 s", "99 s", "2 min", "12 min", "3.5 h"]
