"""Tests of a study's progress: one rewritten line on a terminal, a new line per change elsewhere."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from vlm_lit.commands.study_progress import Progress
from vlm_lit.errors import ConfigError
from vlm_lit.studies.running.queue import Queue
from vlm_lit.studies.running.storage import Heartbeat, named_queue_errors
from vlm_lit.studies.running.study_file import read_study


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    (tmp_path / "config.yaml").write_text("{}")
    content = {
        "name": "quick", "config": "config.yaml", "folder": str(tmp_path / "out"), "metric": "accuracy",
        "factors": {"x": {"key": "x", "values": [1, 2]}}, "seeds": [0], "baseline": {"x": 1},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    with Queue(read_study(tmp_path / "study.yaml"), None, heartbeat=Heartbeat(), worker="here:1") as opened:
        opened.refill()
        yield opened


def test_lines_where_lines_stay(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(queue, None, quiet=False) as progress:
        progress.tick()
        progress.tick()  # too soon to look again
    assert capsys.readouterr().err == "quick: 0 of 2 cells done, 2 waiting\n"
    with Progress(queue, {"x=1/seed=0"}, quiet=False):
        pass
    assert capsys.readouterr().err == "quick: 0 of 1 cells done, 1 waiting\n"
    with Progress(queue, None, quiet=True) as progress:
        progress.tick()
    assert capsys.readouterr().err == ""


def test_one_line_on_a_terminal(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pty.openpty()
    monkeypatch.setenv("COLUMNS", "31")
    with os.fdopen(reading, "rb", buffering=0) as screen, os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(queue, None, quiet=False) as progress:
            progress.tick()
        monkeypatch.undo()
        shown = b""
        while not shown.endswith(b"\n"):  # a terminal hands over what it has so far
            shown += screen.read(4096)
    line = "\r\x1b[2Kquick: 0 of 2 cells done, 2 wa"
    assert shown.decode() == f"{line}{line}\r\n"


def test_a_database_that_is_away_ends_no_cell(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    claim = queue.claim()
    assert claim is not None
    with queue._storage.engine.begin() as connection:
        connection.exec_driver_sql("drop table trial_heartbeats")
        connection.exec_driver_sql("alter table trials rename to trials_away")
    claim.beat()
    Progress(queue, None, quiet=False).tick()
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"no such table.* the same command goes on"), named_queue_errors():
        queue.states()
    claim.lock.release()
