"""Tests of the queue: every cell is run exactly once, on a local file and on a PostgreSQL server."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import optuna
import pytest

from tests.support.quick_worker import HEARTBEAT, queue, work
from tests.support.small_studies import records, start_worker, until, write_study
from vlm_lit.errors import ConfigError
from vlm_lit.studies.running.queue import NoQueueError, Queue
from vlm_lit.studies.running.storage import storage_url
from vlm_lit.studies.running.study_file import read_study

PAUSE = {"pause": 0.15}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path)


@pytest.fixture
def opened() -> Iterator[Callable[..., Queue]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(queue(*arguments))


@contextmanager
def workers(file: Path, storage: str | None, machines: list[str | None]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers that start at the same moment; none is left behind."""
    started = [start_worker(file, storage, machine) for machine in machines]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def trials(file: Path, storage: str | None = None) -> list[optuna.trial.FrozenTrial]:
    """What anybody who opens the storage sees: Optuna's dashboard, for one."""
    with queue(file, storage) as own:
        return optuna.load_study(study_name=own.version, storage=own._storage).trials


def assert_once(file: Path, attempts: int = 1) -> None:
    found = records(file)
    assert [record and record.status for record in found.values()] == ["done"] * len(found)
    assert sum(record.attempts for record in found.values() if record) == len(found) - 1 + attempts
    assert not list(file.parent.rglob("*.stale-*"))


@pytest.mark.slow
def test_workers_that_start_at_once_share_the_cells(file: Path) -> None:
    with workers(file, None, [None] * 3) as started:
        assert [process.wait() for process in started] == [0, 0, 0]
    assert_once(file)
    assert [trial.state.name for trial in trials(file)] == ["COMPLETE"] * 6  # and none was queued twice


@pytest.mark.parametrize("storage", ["local", "postgresql"])
def test_two_that_look_at_the_same_moment_do_not_queue_a_cell_twice(
    storage: str, file: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if storage == "postgresql" else None
    meeting, looked = threading.Barrier(2, timeout=1), Queue._latest

    def latest(own: Queue) -> dict[str, optuna.trial.FrozenTrial]:
        found = looked(own)
        with suppress(threading.BrokenBarrierError):  # under the lock the other one never comes
            meeting.wait()
        return found

    def refill() -> None:
        with queue(file, url) as own:
            own.refill()

    monkeypatch.setattr(Queue, "_latest", latest)
    both = [threading.Thread(target=refill) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [trial.state.name for trial in trials(file, url)] == ["WAITING"] * 6


@pytest.mark.slow
def test_four_workers_on_postgresql_one_of_them_killed(tmp_path: Path, postgres_url: str) -> None:
    file = write_study(tmp_path, set=PAUSE)
    with workers(file, postgres_url, ["a", "b", "c", "d"]) as started:
        until(lambda: list((tmp_path / "out").rglob("step-000001.ckpt")), started[0])
        victim = next(record.worker for record in records(file).values() if record and record.status == "running")
        killed = next(process for process in started if victim.endswith(f":{process.pid}"))
        killed.kill()
        statuses = [process.wait() for process in started]
    assert sorted(statuses) == [-9, 0, 0, 0]
    assert_once(file, attempts=2)
    states = [trial.state.name for trial in trials(file, postgres_url)]
    assert sorted(states) == ["COMPLETE"] * 6 + ["FAIL"]  # the lost one, with its cell's second place


@pytest.mark.slow
def test_killed_twice_in_mid_cell_a_cell_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    file = write_study(tmp_path, set=PAUSE)
    for step in (0, 2):
        with workers(file, None, [None]) as (worker,):
            until(lambda step=step: list((tmp_path / "out").rglob(f"step-{step:06d}.ckpt")), worker)  # type: ignore[misc]
    with workers(file, None, [None]) as (worker,):
        assert worker.wait() == 0
    assert_once(file, attempts=3)  # quick_cell.py ends with an error where a step is done twice


def test_a_trial_shows_levels_seed_and_metric(file: Path) -> None:
    shown = queue(file)
    work(shown)
    assert shown._trials.metric_names == ["accuracy"]
    found = {trial.user_attrs["cell"]: trial for trial in trials(file)}
    trial = found["x=0.75,way=long/seed=0"]
    assert trial.params == {"x": "0.75", "way": "long", "seed": 0}
    assert trial.value == 0.75
    assert trial.user_attrs["worker"].endswith(f":{os.getpid()}")


def test_a_failed_cell_keeps_its_error_and_is_tried_again_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_study(tmp_path, factors={"x": {"key": "x", "values": [0.5, 13]}}, baseline={"x": 0.5})
    work(queue(file))
    failed = records(file)["x=13/seed=0"]
    assert failed is not None
    assert failed.status == "failed"
    assert failed.error == "some words\nerror: out of luck\nfit ended with exit status 1."
    work(queue(file))
    assert records(file)["x=13/seed=0"] == failed  # not tried again by itself
    (tmp_path / "luck").touch()
    work(queue(file), retry=True)
    again = records(file)["x=13/seed=0"]
    assert again is not None
    assert (again.status, again.attempts, again.error) == ("done", 2, None)
    assert records(file)["x=0.5/seed=0"].attempts == 1  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_is_finished_is_not_run_again_what_changed_is(file: Path, tmp_path: Path) -> None:
    work(queue(file))
    before = records(file)
    work(queue(file))
    assert records(file) == before
    (tmp_path / "config.yaml").write_text("# a remark\nmodel:\n  rank: 1\n")
    work(queue(file))
    assert records(file) == before  # it says the same
    levels = {"levels": {"short": {}, "long": {"set": {"data.length": 8}}}}
    write_study(tmp_path, factors={"x": {"key": "x", "values": [0.25, 0.5, 0.75]}, "way": levels})
    work(queue(file))
    after = records(file)
    assert [key for key in after if after[key] != before[key]] == [key for key in before if "way=long" in key]
    stale = sorted(path.relative_to(tmp_path / "out" / "cells") for path in tmp_path.rglob("*.stale-1"))
    assert list(map(str, stale)) == [f"x={x},way=long/seed=0.stale-1" for x in ("0.25", "0.5", "0.75")]
    assert sorted(trial.state.name for trial in trials(file)) == ["COMPLETE"] * 6


def test_a_lost_queue_is_made_again_from_the_records(file: Path, tmp_path: Path) -> None:
    work(queue(file))
    before = records(file)
    for path in (tmp_path / "out" / "queue").iterdir():
        path.unlink()
    work(queue(file))
    assert records(file) == before
    assert {trial.value for trial in trials(file)} == {0.25, 0.5, 0.75}


def test_a_config_that_changes_under_way_stops_the_worker(
    file: Path, opened: Callable[..., Queue], tmp_path: Path
) -> None:
    begun = opened(file)
    (tmp_path / "config.yaml").write_text("model: {rank: 2}\n")
    with pytest.raises(ConfigError, match="changed while its cells were being run"):
        work(begun)
    assert set(records(file).values()) == {None}
    assert set(begun.states().values()) == {"waiting"}


@pytest.mark.parametrize("storage", ["local", "postgresql"])
def test_a_strangers_cell_is_free_after_its_silence(
    storage: str, file: Path, opened: Callable[..., Queue], request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if storage == "postgresql" else None
    theirs, ours = opened(file, url, "there"), opened(file, url, "here")
    theirs.refill()
    claim = theirs.claim()
    assert claim is not None
    place = claim.job.name
    claim.lock.release()  # as locks are that do not reach from machine to machine
    ours.refill()
    assert ours.states()[place] == "running"
    with ours._storage.engine.begin() as connection:  # four seconds go by
        connection.exec_driver_sql(f"update trial_heartbeats set heartbeat = {PAST[storage]}")
    ours.refill()
    assert ours.states()[place] == "waiting"
    assert ours.claim({place}) is not None
    claim.finish(1.0)  # it was not dead after all: too late
    assert ours.states()[place] == "running"


PAST = {
    "local": "datetime(heartbeat, '-5 seconds')",
    "postgresql": "heartbeat - interval '5 seconds'",
}


def test_a_finished_cell_that_was_given_away_is_not_run_again(file: Path, opened: Callable[..., Queue]) -> None:
    work(queue(file))
    before = records(file)
    again = opened(file)
    again._add("x=0.5,way=short/seed=0", again.job("x=0.5,way=short/seed=0"), "WAITING")
    work(queue(file))
    assert records(file) == before
    assert set(again.states().values()) == {"done"}


def test_a_dead_neighbours_cell_is_free_at_once(file: Path, opened: Callable[..., Queue]) -> None:
    theirs, ours = opened(file), opened(file)
    theirs.refill()
    claim = theirs.claim()
    assert claim is not None
    ours.refill()
    assert ours.states()[claim.job.name] == "running"
    claim.lock.release()  # what the kernel does when it dies
    ours.refill()
    assert ours.states()[claim.job.name] == "waiting"


def test_a_look_makes_no_queue(file: Path) -> None:
    url = storage_url(read_study(file).folder, None)
    work(queue(file), chosen={"x=0.5,way=short/seed=0"})
    write_study(file.parent, seeds=[1])
    with pytest.raises(NoQueueError, match="nobody has begun"):
        Queue(read_study(file), None, heartbeat=HEARTBEAT, worker="", make=False)
    assert len(optuna.get_all_study_names(url)) == 1


def test_a_storage_that_is_none_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="a queue for several machines lies in PostgreSQL"):
        queue(file, "mysql://nobody:secret@nowhere/x")
    with pytest.raises(ConfigError, match=r"^The queue's database cannot be used: .*Check --storage") as refused:
        queue(file, "postgresql+psycopg://nobody:secret@127.0.0.1:1/x")
    assert "secret" not in str(refused.value)
