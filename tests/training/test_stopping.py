"""Tests of a stopped run (Ctrl-C, SIGTERM, an error): it loses nothing, and says how to go on.

Real signals to real processes. Checkpoints by number of steps are off: what is kept is kept because the run stopped.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from tests.support.interrupted import Kill, Outcome, fit_apart, start
from tests.support.runs import run_dir, verb
from tests.support.slow_items import SlowItems, busy, lives
from vlm_lit.data.loaders import loader
from vlm_lit.errors import VlmLitError
from vlm_lit.training.callbacks.step_checkpoint import checkpoints
from vlm_lit.training.stop_signals import StopSignals, requeue_signals

Config = Callable[..., Path]

MODULE = "vlm_lit.training.supervised:SupervisedModule"
DATA = "vlm_lit.data.datamodule:ConversationDataModule"


def written(config: Config, **keeping: object) -> Path:
    """Three passes of three steps, a validation after each, dropout on, two workers."""
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1000, "keep": 20, **keeping},
    }
    return config(
        model={"lora": {"dropout": 0.1}},
        data={"num_workers": 2},
        trainer={"max_epochs": 3, "callbacks": [keeper]},
    )


_NEVER_STOPPED: list[Outcome] = []


@pytest.fixture
def never_stopped(config: Config, tmp_path: Path) -> Outcome:
    # Once for all tests here: model and data are the session's.
    if not _NEVER_STOPPED:
        assert fit_apart(written(config), tmp_path / "whole") == 0
        _NEVER_STOPPED.append(Outcome.of(tmp_path / "whole"))
    return _NEVER_STOPPED[0]


def kept(folder: Path) -> list[str]:
    return [path.stem for path in checkpoints(folder / "checkpoints")]


# A step batch has 3, 3 and 2 micro-batches, so call 12 is in step 5; each validation has one batch of questions.
STOPS = {
    "Ctrl-C within a step": (Kill(at=f"{MODULE}._backward", call=12, by=signal.SIGINT), 130, 5),
    "SIGTERM within a step": (Kill(at=f"{MODULE}._backward", call=12, by=signal.SIGTERM), 143, 5),
    "SIGUSR1 within a step": (Kill(at=f"{MODULE}._backward", call=12, by=signal.SIGUSR1), 138, 5),
    "SIGHUP within a step": (Kill(at=f"{MODULE}._backward", call=12, by=signal.SIGHUP), 129, 5),
    "Ctrl-C before the first step is over": (Kill(at=f"{MODULE}._backward", call=1, by=signal.SIGINT), 130, 1),
    "SIGTERM within a validation": (Kill(at=f"{MODULE}.validation_step", call=2, by=signal.SIGTERM), 143, 6),
    "a broken record": (Kill(at=f"{DATA}.on_before_batch_transfer", call=6, by=VlmLitError("broken record")), 2, 4),
    # Of these, two are of the validation behind step 3.
    "an error in the forward pass": (Kill(at=f"{MODULE}.loss", call=14, by=RuntimeError("CUDA error")), 1, 4),
    "an error in a validation": (Kill(at=f"{MODULE}.validation_step", call=2, by=RuntimeError("bad")), 1, 6),
    # Neither step 5 nor step 4 is there any more: the validation's checkpoint of step 3 is.
    "an error between weights and schedule": (
        Kill(at="torch.optim.lr_scheduler:LambdaLR.step", call=6, by=RuntimeError("torn")), 1, 3,
    ),
    # Two groups of parameters, so this is the second one of step 5: half of the weights are new.
    "an error within the optimizer": (Kill(at="torch.optim.adam:adam", call=10, by=RuntimeError("torn")), 1, 3),
    "killed within a validation": (Kill(at=f"{MODULE}.validation_step", call=2), -9, 6),
}  # fmt: skip


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(("kill", "status", "step"), STOPS.values(), ids=STOPS.keys())
def test_equality_6_stopped(
    kill: Kill, status: int, step: int, never_stopped: Outcome, config: Config, tmp_path: Path
) -> None:
    path, folder = written(config), tmp_path / "stopped"
    assert fit_apart(path, folder, kill=kill) == status
    assert kept(folder)[-1] == f"step-{step:06d}"
    assert fit_apart(path, folder, "--ckpt_path", "last") == 0
    assert Outcome.of(folder) == never_stopped


def test_a_second_ctrl_c_leaves_at_once(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    kill = Kill(at=f"{MODULE}._backward", call=12, by=signal.SIGINT, times=2)
    assert fit_apart(written(config), folder, kill=kill) == 130
    assert kept(folder) == ["step-000003"]  # of the validation


def test_a_stop_in_the_first_step_leaves_a_folder_to_start_in(config: Config, tmp_path: Path) -> None:
    path, folder = written(config), tmp_path / "stopped"
    kill = Kill(at=f"{MODULE}.loss", call=2, by=RuntimeError("CUDA error"))
    assert fit_apart(path, folder, kill=kill) == 1
    assert (folder / "config.yaml").is_file()
    assert kept(folder) == []
    assert fit_apart(path, folder, "--trainer.max_epochs=1") == 0
    curves = [path for path in folder.glob("events.out.tfevents.*") if not path.name.endswith(".hparams")]
    assert len(curves) == 1, "the failed run's curves are gone"


@pytest.mark.parametrize(("minutes", "steps"), [(1e-9, [1, 2, 3, 4, 5, 6]), (60.0, [3, 6])])
def test_checkpoints_by_time(minutes: float, steps: list[int], config: Config, tmp_path: Path) -> None:
    path = written(config, every_minutes=minutes)
    assert fit_apart(path, tmp_path / "run", "--trainer.max_epochs=2") == 0
    assert kept(tmp_path / "run") == [f"step-{step:06d}" for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_that_is_printed_goes_on(
    number: signal.Signals, never_stopped: Outcome, config: Config, tmp_path: Path
) -> None:
    # As a terminal does it: every process of the run is told, its data workers too.
    path, folder = written(config, every_minutes=1e-9), tmp_path / "a run's folder"
    words = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(path), "--run_dir", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not (folder / "checkpoints" / "step-000001.ckpt").exists():
        time.sleep(0.002)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    typed = shlex.split(said.splitlines()[-1])
    assert typed == ["python", *words[1:], "--ckpt_path", "last"]
    assert subprocess.run([sys.executable, *typed[1:]], stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert Outcome.of(folder) == never_stopped


# What SLURM would be asked is written down instead; `test_slurm.py` has one of its own to ask, where it is installed.
JOB = {
    "SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost",
}  # fmt: skip
SHOWN = "JobId=77 Requeue=1 JobState={state} StartTime=2026-11-29T13:59:16 PreemptTime={preempted} Command=a b"


class Asked:
    """A `scontrol` that says of the job what it is told to, and writes down what else it is asked."""

    def __init__(self, folder: Path, *, state: str = "RUNNING", preempted: str = "None") -> None:
        self.file, self.path = folder / "asked", f"{folder / 'bin'}:{os.environ['PATH']}"
        scontrol = folder / "bin" / "scontrol"
        scontrol.parent.mkdir()
        shown = SHOWN.format(state=state, preempted=preempted)
        scontrol.write_text(f'#!/bin/sh\n[ "$1" = show ] && echo "{shown}" || echo "$@" >> {self.file}\n')
        scontrol.chmod(0o755)

    @property
    def words(self) -> str:
        return self.file.read_text() if self.file.exists() else ""


PREEMPTED = {"preempted": "2026-11-29T13:59:46"}
# SIGTERM is scancel's, after which nobody should run the job again, or preemption's, after which SLURM itself does so.
# Where it gives the job time to end, it does not: the job has ended by itself.
ENDS: dict[str, tuple[signal.Signals, dict[str, str], str]] = {
    "time limit": (signal.SIGUSR1, {}, "requeue 77\n"),
    "scancel": (signal.SIGTERM, {}, ""),
    "preempted, with time to end": (signal.SIGTERM, PREEMPTED, "requeue 77\n"),
    "preempted at once": (signal.SIGTERM, {**PREEMPTED, "state": "COMPLETING"}, ""),
    "scancel after an earlier preemption": (signal.SIGTERM, {"preempted": "2026-11-29T13:00:00"}, ""),
}
ended_by = pytest.mark.parametrize(("number", "shown", "asks"), ENDS.values(), ids=ENDS.keys())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "shown", "asks"), list(ENDS.values())[:3], ids=list(ENDS)[:3])
def test_a_job_that_slurm_runs_again_goes_on(
    number: signal.Signals, shown: dict[str, str], asks: str, never_stopped: Outcome, config: Config, tmp_path: Path
) -> None:
    path, folder, asked = written(config, every_minutes=1e-9), tmp_path / "run", Asked(tmp_path, **shown)
    job = {**os.environ, **JOB, "PATH": asked.path}
    words = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(path), "--run_dir", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=job, start_new_session=True)
    while process.poll() is None and not (folder / "checkpoints" / "step-000001.ckpt").exists():
        time.sleep(0.002)
    os.killpg(process.pid, number)  # SLURM tells every process of a job's step, data workers too
    _, said = process.communicate()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert asked.words == asks
    assert not list(folder.glob("hpc_ckpt*"))
    again = subprocess.run(
        words, stderr=subprocess.PIPE, text=True, env={**job, "SLURM_RESTART_COUNT": "1"}, check=False
    )
    assert again.returncode == 0, again.stderr
    assert Outcome.of(folder) == never_stopped


def _set_environment(values: dict[str, str]) -> None:
    os.environ |= values


@ended_by
def test_before_the_training_a_signal_stops_at_once_under_slurm_too(
    number: signal.Signals, shown: dict[str, str], asks: str, config: Config, tmp_path: Path
) -> None:
    # Lightning's handlers are in place by then: it would save within the signal's handler, or pass over SIGTERM.
    asked, folder = Asked(tmp_path, **shown), tmp_path / "run"
    job = partial(_set_environment, {**JOB, "PATH": asked.path})
    kill = Kill(at="lightning.pytorch.loops.fit_loop:_FitLoop.setup_data", call=1, by=number)
    assert fit_apart(written(config), folder, kill=kill, tamper=job) == 128 + number
    assert asked.words == asks
    assert not list(folder.glob("hpc_ckpt*"))


def test_a_job_without_time_for_a_step_is_run_again_three_times(config: Config, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    kill = Kill(at="lightning.pytorch.loops.fit_loop:_FitLoop.setup_data", call=1, by=signal.SIGUSR1)
    for again in range(5):
        job = partial(_set_environment, {**JOB, "PATH": asked.path, "SLURM_RESTART_COUNT": str(again)})
        assert fit_apart(written(config), tmp_path / "run", kill=kill, tamper=job) == 128 + signal.SIGUSR1
    assert asked.words == 3 * "requeue 77\n"


# What a process does as soon as it imports torch.
WHILE_IMPORTING = """
import os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "torch._C":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(("end", "again"), [("time limit", 2), ("time limit", 3), ("preempted, with time to end", 3)])
def test_a_signal_while_libraries_are_imported(end: str, again: int, config: Config, tmp_path: Path) -> None:
    number, shown, asks = ENDS[end]
    asked = Asked(tmp_path, **shown)
    (tmp_path / "sitecustomize.py").write_text(WHILE_IMPORTING.format(number=int(number)))
    job = {**os.environ, **JOB, "PATH": asked.path, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    job["SLURM_RESTART_COUNT"] = str(again)
    words = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(written(config))]
    ended = subprocess.run(words, stderr=subprocess.PIPE, text=True, env=job, check=False)
    assert ended.returncode == 128 + number, ended.stderr
    in_vain = (end, again) == ("time limit", 3)
    assert asked.words == ("" if in_vain else asks)
    assert ("Give it more time (sbatch --time)" in ended.stderr) is in_vain
    assert in_vain or ended.stderr == ""


def test_lightnings_file_of_half_a_step_is_named(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config()
    run_dir(path).mkdir()
    (run_dir(path) / "hpc_ckpt_1.ckpt").touch()
    assert verb("fit", path) == 2
    assert "hpc_ckpt_1.ckpt was written by Lightning in the middle of a step" in capsys.readouterr().err


def test_slurms_signals_are_taken_from_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a program of one's own nothing else keeps Lightning's handlers out, before the training and behind it.
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    environment = SLURMEnvironment()
    assert requeue_signals(environment) == (signal.SIGUSR1,)
    assert not environment.auto_requeue
    assert requeue_signals(SLURMEnvironment(auto_requeue=False)) == ()


def test_what_nohup_ignores_stays_ignored() -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals()
    try:
        signals.watch()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.received == signal.SIGUSR1
    finally:
        signals.restore()
        signal.signal(signal.SIGHUP, earlier)


def _wait_for_batches(begun: Path) -> None:
    next(iter(loader(SlowItems(begun), workers=2)))


def test_data_workers_end_with_their_parent_whatever_they_are_at(tmp_path: Path) -> None:
    process = start(_wait_for_batches, tmp_path)
    workers = busy(tmp_path, 2)
    process.kill()
    process.join()
    end = time.monotonic() + 20
    while (living := [pid for pid in workers if lives(pid)]) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    assert living == []
