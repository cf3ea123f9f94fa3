"""Tests of a run as a SLURM job: the same result as one process, and one that another job takes the place of.

A real SLURM on this machine, where one is installed (Debian: slurm-wlm); gloo on CPUs, two processes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import fit, scalars
from tests.support.slurm import Slurm
from vlm_lit.models.adapter_state import file_sha256

pytestmark = pytest.mark.slow

Config = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "cluster" / "slurm_fit.sh"
# As a user of a cluster without GPUs types it.
ON_CPUS = ("--gpus-per-node=0", "--ntasks-per-node=2", "--cpus-per-task=1", "--overcommit", f"--chdir={ROOT}")


@pytest.fixture
def path(config: Config) -> Path:
    """Five passes of three steps; a checkpoint after each step."""
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    return config(
        model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
        trainer={"max_epochs": 5, "callbacks": [keeper], "limit_val_batches": 0},
    )


def submitted(slurm: Slurm, path: Path, folder: Path) -> str:
    words = (*ON_CPUS, f"--output={folder}.log", str(SCRIPT), "--config", str(path), "--run_dir", str(folder))
    return slurm.submitted(*words, PYTHON=sys.executable, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")


def left(folder: Path) -> tuple[list[tuple[int, float]], str]:
    """The losses of a run, and what its trained weights are known by."""
    return scalars(folder)["train/loss"], file_sha256(folder / "adapter" / "adapter_model.safetensors")


def test_a_job_is_one_process_and_goes_on_when_another_took_its_place(slurm: Slurm, path: Path, tmp_path: Path) -> None:
    whole = submitted(slurm, path, tmp_path / "whole")
    fit(path, "--run_dir", str(tmp_path / "one"))
    state = slurm.until(whole, "COMPLETED", "FAILED")["JobState"]
    assert state == "COMPLETED", (tmp_path / "whole.log").read_text()[-3000:]
    one, two = scalars(tmp_path / "one"), scalars(tmp_path / "whole")
    for name in ("train/loss", "train/gradient_norm"):
        # float32 sums in another order, over fifteen optimizer steps.
        assert [v for _, v in two[name]] == pytest.approx([v for _, v in one[name]], rel=1e-5, abs=1e-6), name
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "whole")]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))

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
