"""Tests of `study` as a user runs it: real fits through the command line, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.refusals import refusal
from vlm_lit.cli import main
from vlm_lit.studies.running.cell import arguments
from vlm_lit.studies.running.cell_record import CellRecord, measured, read_record
from vlm_lit.studies.running.grid import cells
from vlm_lit.studies.running.queue import Queue
from vlm_lit.studies.running.storage import Heartbeat
from vlm_lit.studies.running.study_file import read_study

Config = Callable[..., Path]


def written(config: Path, key: str = "model.init_args.lora.rank", **changes: object) -> Path:
    """A study of two cells beside a runnable config."""
    content = {
        "name": "ranks",
        "config": config.name,
        "folder": str(config.parent / "out"),
        "metric": "vqa_accuracy",
        "factors": {"rank": {"key": key, "values": [4, 8]}},
        "seeds": [0],
        "baseline": {"rank": 4},
        "set": {"trainer.max_epochs": 2, "trainer.limit_val_batches": 0},
        **changes,
    }
    path = config.with_name("ranks.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def every_step(config: Config) -> Path:
    """A runnable config that keeps a checkpoint of every step."""
    path = "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"
    keeper = {"class_path": path, "init_args": {"every_n_steps": 1}}
    return config(trainer={"callbacks": [keeper]}, model={"lora": {"dropout": 0.1}})


def records(file: Path) -> list[CellRecord | None]:
    study = read_study(file)
    return [read_record(cell.folder(study)) for cell in cells(study)]


def started(file: Path, *more: str) -> subprocess.Popen[bytes]:
    """`study run` as the leader of a process group of its own."""
    words = [sys.executable, "-m", "vlm_lit", "study", "run", str(file), *more]
    return subprocess.Popen(words, start_new_session=True)


def wait_for_step(process: subprocess.Popen[bytes], file: Path, step: int) -> None:
    folder = cells(read_study(file))[0].folder(read_study(file)) / "checkpoints"
    while not any(int(path.stem[5:]) >= step for path in folder.glob("step-*.ckpt")):
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_twice_and_started_again_a_study_ends_as_if_it_had_never_been(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(every_step(config))
    first = started(file, "--cells", "rank=4")
    wait_for_step(first, file, 2)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -9
    second = started(file, "--cells", "rank=4/seed=0")
    wait_for_step(second, file, 4)
    second.kill()  # the worker alone; its fit dies with it
    assert second.wait() == -9
    assert started(file, "--workers", "2", "--heartbeat", "1", "--grace", "5").wait() == 0

    four, eight = records(file)
    assert four is not None
    assert eight is not None
    assert (four.status, four.attempts, eight.status, eight.attempts) == ("done", 3, "done", 1)
    assert four.seconds.keys() == {"fit", "test"}
    assert four.peak_memory_mib is not None
    assert four.peak_memory_mib > 200

    study = read_study(file)
    cell = cells(study)[0]
    whole = [word for word in arguments(study, cell) if not word.startswith("--run_dir")]
    assert main(["fit", *whole, f"--run_dir={tmp_path / 'whole'}"]) == 0
    name = "adapter/adapter_model.safetensors"
    assert (cell.folder(study) / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    capsys.readouterr()
    assert main(["study", "run", str(file)]) == 0  # finds nothing to do
    assert records(file) == [four, eight]
    assert "ranks: 2 of 2 cells done" in capsys.readouterr().err
    assert main(["study", "status", str(file)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "seed", "state", "vqa_accuracy", "time", "error"]
    assert lines[0].split()[:4] == ["4", "0", "done", f"{measured(cell.folder(study), 'vqa_accuracy'):.4f}"]


def test_a_cell_that_fails_says_why(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(config(), key="model.init_args.lora.rnak")
    assert main(["study", "run", str(file), "--cells", "rank=4"]) == 1
    said = capsys.readouterr().err
    assert "ranks: 0 of 1 cells done, 1 failed" in said
    assert "1 failed: rank=4/seed=0." in said
    assert main(["study", "status", str(file)]) == 0
    failed, waiting = capsys.readouterr().out.splitlines()[1:3]
    assert failed.split()[:3] == ["4", "0", "failed"]
    assert "model.init_args.lora.rnak is not an option. Did you mean model.init_args.lora.rank?" in failed
    assert waiting.split() == ["8", "0", "waiting"]


def test_a_status_before_a_run_makes_nothing(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(config())
    assert main(["study", "status", str(file)]) == 0
    assert "ranks: 0 of 2 cells done, 2 waiting" in capsys.readouterr().out
    assert not (file.parent / "out").exists()


def test_told_to_stop_a_worker_gives_its_cell_back(config: Config) -> None:
    file = written(config())
    worker = started(file, "--quiet")
    while not (file.parent / "out" / "cells" / "rank=4" / "seed=0" / "fit.log").exists():
        assert worker.poll() is None
        time.sleep(0.01)
    worker.terminate()
    assert worker.wait() == 128 + signal.SIGTERM
    first, second = records(file)
    assert first is not None
    assert (first.status, second) == ("running", None)
    with Queue(read_study(file), None, heartbeat=Heartbeat(), worker="", machine="another", make=False) as queue:
        assert set(queue.states().values()) == {"waiting"}


SIGNAL_WITHIN_A_FORK = """
import os, signal, sys
from vlm_lit.cli import main
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
sys.exit(main(["study", "run", sys.argv[1], "--quiet"]))
"""


def test_told_to_stop_where_python_drops_what_is_raised(config: Config) -> None:
    file = written(config())
    words = [sys.executable, "-c", SIGNAL_WITHIN_A_FORK, str(file)]
    assert subprocess.run(words).returncode == 128 + signal.SIGTERM
    first, second = records(file)
    assert first is not None
    assert (first.status, second) == ("running", None)


@pytest.mark.parametrize(("more", "said"), [
    (("--cells", "rank=5"), "--cells rank=5 names no cell of ranks. One is rank=4, or rank=4/seed=0."),
    (("--heartbeat", "9", "--grace", "9"), "a worker must be heard of more often than it is given up"),
    (("--storage", "mysql://u:secret@h/d"), "a queue for several machines lies in PostgreSQL"),
    (("--worker", "2"), "Did you mean --workers?"),
])  # fmt: skip
def test_options_that_cannot_be(
    more: tuple[str, ...], said: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "study", "run", str(written(config())), *more)
    assert said in error
    assert "secret" not in error


def test_an_action_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "study rnu: is no action. Did you mean run?" in refusal(capsys, "study", "rnu")
    assert main(["study", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {action} " in shown for action in ("run", "status", "report"))
