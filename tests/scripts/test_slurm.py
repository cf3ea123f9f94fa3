"""Tests of a run as a SLURM job: the same result as one process, and one that another job takes the place of.

A real SLURM on this machine, where one is installed (Debian: slurm-wlm); gloo on CPUs, two processes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import fit
from tests.support.slurm import Slurm
from tests.support.two_processes import check_as_one, fifteen_steps, left

pytestmark = pytest.mark.slow

Config = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "cluster" / "slurm_fit.sh"
# As a user of a cluster without GPUs types it.
ON_CPUS = ("--gpus-per-node=0", "--ntasks-per-node=2", "--cpus-per-task=1", "--overcommit", f"--chdir={ROOT}")


@pytest.fixture
def path(config: Config) -> Path:
    return fifteen_steps(config)


def submitted(slurm: Slurm, path: Path, folder: Path) -> str:
    words = (*ON_CPUS, f"--output={folder}.log", str(SCRIPT), "--config", str(path), "--run_dir", str(folder))
    return slurm.submitted(*words, PYTHON=sys.executable, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")


def test_a_job_is_one_process_and_goes_on_when_another_took_its_place(slurm: Slurm, path: Path, tmp_path: Path) -> None:
    whole = submitted(slurm, path, tmp_path / "whole")
    fit(path, "--run_dir", str(tmp_path / "one"))
    state = slurm.until(whole, "COMPLETED", "FAILED")["JobState"]
    assert state == "COMPLETED", (tmp_path / "whole.log").read_text()[-3000:]
    check_as_one(tmp_path / "whole", tmp_path / "one")

    job = submitted(slurm, path, tmp_path / "preempted")
    while not (tmp_path / "preempted" / "checkpoints" / "step-000002.ckpt").exists():
        assert slurm.said(job)["JobState"] in ("PENDING", "RUNNING"), (tmp_path / "preempted.log").read_text()[-3000:]
        time.sleep(0.01)
    other = slurm.submitted("--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
    slurm.until(other, "COMPLETED")
    said = slurm.until(job, "PENDING", "FAILED", "COMPLETED")
    log = (tmp_path / "preempted.log").read_text()
    assert "Stopping (SIGTERM): this step is finished and its state kept." in log
    assert (said["JobState"], said["Restarts"]) == ("PENDING", "1"), log[-3000:]
    slurm.typed("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM itself waits two minutes
    state = slurm.until(job, "COMPLETED", "FAILED")["JobState"]
    assert state == "COMPLETED", (tmp_path / "preempted.log").read_text()[-3000:]
    assert left(tmp_path / "preempted") == left(tmp_path / "whole")  # to the last bit
