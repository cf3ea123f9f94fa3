"""Tests of a search: exactly its number of settings, each with all seeds, whoever works on it."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from tests.support.quick_worker import queue, work
from tests.support.small_studies import records, start_worker, write_study
from vlm_lit.studies.running.study_file import read_study


def search(folder: Path, trials: int, sampler: str = "tpe", **changes: object) -> Path:
    ranges = {"x": {"low": 1e-3, "high": 1.0, "log": True}, "depth": {"low": 1, "high": 4}}
    factors = {"way": {"levels": {"short": {}, "long": {"set": {"data.length": 9}}}}}
    given = {"sampler": sampler, "trials": trials, "ranges": ranges}
    return write_study(
        folder, **{"factors": factors, "baseline": {"way": "short"}, "seeds": [0, 1], "search": given, **changes}
    )


def trials(file: Path) -> list[optuna.trial.FrozenTrial]:
    with queue(file) as own:
        return optuna.load_study(study_name=own.version, storage=own._storage).trials


def test_two_workers_draw_the_number_asked_for(tmp_path: Path) -> None:
    file = search(tmp_path, 4)
    started = [start_worker(file) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    found = trials(file)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 4
    assert len({trial.params["x"] for trial in found}) == 4
    for trial in found:
        assert trial.params.keys() == {"way", "x", "depth"}
        assert 1e-3 <= trial.params["x"] <= 1.0
        assert trial.params["depth"] in (1, 2, 3, 4)
        assert trial.value is not None
        assert math.isclose(trial.value, trial.params["x"] + 0.5)  # the mean of quick_cell.py's x + 0 and x + 1
    assert [record and record.status for record in records(file).values()] == ["done"] * 8


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "MAXIMIZE"), ("chair", "MINIMIZE")])
def test_it_looks_for_the_better_score(metric: str, direction: str, tmp_path: Path) -> None:
    with queue(search(tmp_path, 1, metric=metric)) as own:
        assert optuna.load_study(study_name=own.version, storage=own._storage).direction.name == direction


def test_more_trials_go_on_with_the_same_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = search(tmp_path, 2, "random")
    work(queue(file))
    before = records(file)
    work(queue(file))
    assert records(file) == before
    assert len(before) == 4
    search(tmp_path, 3, "random")
    work(queue(file))
    assert len(records(file)) == 6
    assert before.items() <= records(file).items()


def test_a_lost_draw_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = search(tmp_path, 2, seeds=[0])
    with queue(file) as theirs:
        claim = theirs.claim()
        assert claim is not None
        drawn = claim.job.cells[0].parameters
        claim.lock.release()  # what the kernel does when it dies
    work(queue(file))
    found = trials(file)
    assert [trial.state.name for trial in found] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert {"x": found[1].params["x"], "depth": found[1].params["depth"]} == drawn


def test_a_draw_whose_worker_died_before_it_could_sign_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = search(tmp_path, 2, seeds=[0])
    with queue(file) as theirs:
        theirs._storage.create_new_trial(theirs._id)
    work(queue(file))
    assert [trial.state.name for trial in trials(file)] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_cells_of_an_earlier_range_are_none_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = search(tmp_path, 1, seeds=[0])
    work(queue(file))
    assert len(records(file)) == 1
    (tmp_path / "config.yaml").write_text("model: {rank: 2}\n")
    assert records(file) == {}
    assert read_study(file).search is not None
