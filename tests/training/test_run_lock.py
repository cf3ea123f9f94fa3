"""Tests of one writer a run directory: a second process is refused, and a dead one keeps nobody out."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.interrupted import Kill, fit_apart, start
from tests.support.runs import run_dir, verb
from tests.support.slow_items import SlowItems, busy, lives
from vlm_lit.cli import main
from vlm_lit.data.loaders import loader
from vlm_lit.errors import ConfigError
from vlm_lit.files.process_lock import ProcessLock
from vlm_lit.training.run_lock import FILE, refuse_second_writer, sole_writer

Config = Callable[..., Path]

BACKWARD = "vlm_lit.training.step:StepModule._backward"


def _fit(config: Path, kill: Kill) -> None:
    from tests.support.interrupted import arm

    arm(kill)
    main(["fit", "--config", str(config)])


def _state(pid: int | None) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_second_process_is_refused_until_the_first_is_dead(
    config: Config, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    path = config(trainer={"callbacks": [keeper]}, data={"num_workers": 2})
    # Asleep in its second step, which holds the run as any other moment does.
    first = start(_fit, path, Kill(at=BACKWARD, call=4, by=signal.SIGSTOP))
    while _state(first.pid) != "T":
        time.sleep(0.01)
    try:
        checkpoint = run_dir(path) / "checkpoints" / "step-000001.ckpt"
        before = checkpoint.read_bytes()
        asked = f"--data.init_args.predict.path={small / 'val.json'}"
        for more in (("fit",), ("fit", "--overwrite"), ("fit", "--ckpt_path=last"), ("test",), ("predict", asked)):
            assert verb(more[0], path, *more[1:]) == 2, more
            said = capsys.readouterr().err
            assert f"is being written by another process (fit, process {first.pid} on " in said, more
        assert checkpoint.read_bytes() == before
        assert verb("test", path, "--run_dir", str(tmp_path / "other")) == 0
    finally:
        first.kill()
        first.join()
    assert fit_apart(path, run_dir(path), "--ckpt_path", "last") == 0


def _hold_with_workers(run: Path, begun: Path) -> None:
    with sole_writer(run, "fit"):
        workers = loader(SlowItems(begun), workers=1)
        workers.worker_init_fn = None  # so that they outlive this process, as on a system without its death signal
        next(iter(workers))


def test_data_workers_that_outlive_a_killed_run_keep_nobody_out(tmp_path: Path) -> None:
    run, begun = tmp_path / "run", tmp_path / "begun"
    begun.mkdir()
    first = start(_hold_with_workers, run, begun)
    (worker,) = busy(begun, 1)
    with pytest.raises(ConfigError, match=f"process {first.pid} on"):
        refuse_second_writer(run)
    first.kill()
    first.join()
    try:
        assert lives(worker)
        with sole_writer(run, "fit"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_process_refuses_itself_and_lets_go(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path, "fit"),
        pytest.raises(ConfigError, match="another process"),
        sole_writer(tmp_path, "fit"),
    ):
        pass
    with sole_writer(tmp_path, "test"):
        assert (tmp_path / FILE).read_text().startswith(f"test, process {os.getpid()} on ")


def test_a_lock_on_a_file_that_was_deleted_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one before us lets go between our opening of its file and our locking: a third one may make another file.
    path, lockf = tmp_path / FILE, fcntl.lockf
    deleted: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not deleted:
            path.unlink()
            deleted.append(path)
        lockf(descriptor, operation)

    monkeypatch.setattr(fcntl, "lockf", late)
    lock = ProcessLock(path)
    assert lock.acquire("me")
    assert path.read_text() == "me"
    lock.release()
    assert not path.exists()


def test_the_other_ranks_of_a_run_are_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sole_writer(tmp_path, "fit"):
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
            with monkeypatch.context() as patch:
                patch.setenv(name, "1")
                refuse_second_writer(tmp_path)
                with sole_writer(tmp_path, "fit"):
                    pass


def test_a_look_at_a_folder_makes_nothing(tmp_path: Path) -> None:
    refuse_second_writer(tmp_path / "none")
    refuse_second_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []
