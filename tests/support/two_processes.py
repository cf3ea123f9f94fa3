"""Runs of two processes that a launcher started: their course, and what must be as in a run of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import scalars
from vlm_lit.models.adapter_state import file_sha256


def fifteen_steps(config: Callable[..., Path]) -> Path:
    """The config of five passes of three steps, with a checkpoint after each step."""
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    return config(
        # A gradient enters SGD's step as it is; Adam's would blow up the rounding of entries near zero.
        model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
        trainer={"max_epochs": 5, "callbacks": [keeper], "limit_val_batches": 0},
    )


def left(folder: Path) -> tuple[list[tuple[int, float]], str]:
    """The losses of a run, and what its trained weights are known by."""
    return scalars(folder)["train/loss"], file_sha256(folder / "adapter" / "adapter_model.safetensors")


def check_as_one(two: Path, one: Path) -> None:
    """Refuse a run of two processes whose losses, gradients or weights are not those of one process."""
    found, expected = scalars(two), scalars(one)
    for name in ("train/loss", "train/gradient_norm"):
        # float32 sums in another order, over fifteen optimizer steps.
        assert [v for _, v in found[name]] == pytest.approx([v for _, v in expected[name]], rel=1e-5, abs=1e-6), name
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, two)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-5, atol=1e-5 * float(weight.abs().max()))
