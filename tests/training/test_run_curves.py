"""Tests of a run's curves: no step missing, none twice, whatever stopped the run and whatever its clocks say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.interrupted import Kill, fit_apart
from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.training.callbacks.step_checkpoint import checkpoints

Config = Callable[..., Path]

BACKWARD = "vlm_lit.training.step:StepModule._backward"


@pytest.fixture
def config(either_config: Config) -> Config:
    return either_config


def written(config: Config, every_n_steps: int = 2) -> Path:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": every_n_steps},
    }
    return config(trainer={"max_epochs": 2, "callbacks": [keeper], "val_check_interval": 1.0})


def curve_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("events.out.tfevents.*") if not path.name.endswith(".hparams"))


@pytest.mark.slow(but_first=True)
def test_a_clock_that_stands_behind_loses_no_step_and_shows_none_twice(config: Config, tmp_path: Path) -> None:
    path, folder = written(config), tmp_path / "run"
    # Killed in step 5 (from 0): step 4 is logged and not kept, for a step batch has 3, 3 and 2 micro-batches.
    assert fit_apart(path, folder, kill=Kill(at=BACKWARD, call=15)) == -9
    (first,) = curve_files(folder)
    number = int(first.name.split(".")[3])
    first.rename(first.with_name(first.name.replace(str(number), str(number + 90_000), 1)))  # a day ahead
    assert [step for step, _ in scalars(folder)["train/loss"]] == [0, 1, 2, 3, 4]
    assert fit_apart(path, folder, "--ckpt_path", "last") == 0
    assert [step for step, _ in scalars(folder)["train/loss"]] == list(range(6))
    assert [step for step, _ in scalars(folder)["val/vqa_accuracy"]] == [2, 5]
    assert len(curve_files(folder)) == 2


@pytest.mark.slow(but_first=True)
def test_a_resumption_that_is_refused_leaves_the_curves(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(config)
    assert verb("fit", path) == 0
    folder = run_dir(path)
    curves, files = scalars(folder), curve_files(folder)
    kept = checkpoints(folder / "checkpoints")
    for checkpoint in kept[1:]:
        checkpoint.unlink()
    state = torch.load(kept[0], weights_only=True)
    state["trainable_names"].reverse()  # which is found out when the model is loaded
    torch.save(state, kept[0])
    assert verb("fit", path, "--ckpt_path", "last") == 2
    assert "another order" in capsys.readouterr().err
    assert scalars(folder) == curves
    assert curve_files(folder) == files


@pytest.mark.slow(but_first=True)
def test_a_run_that_is_started_over_and_fails_leaves_the_curves(config: Config, tmp_path: Path) -> None:
    path, folder = written(config, every_n_steps=100), tmp_path / "run"
    assert fit_apart(path, folder, kill=Kill(at=BACKWARD, call=7)) == -9
    curves = scalars(folder)
    assert [step for step, _ in curves["train/loss"]] == [0, 1]
    kill = Kill(at="vlm_lit.training.module:VisionLanguageModule.configure_model", call=1, by=RuntimeError("no"))
    assert fit_apart(path, folder, kill=kill) == 1
    assert scalars(folder) == curves
    assert fit_apart(path, folder) == 0
    assert [step for step, _ in scalars(folder)["train/loss"]] == list(range(6))


@pytest.mark.slow(but_first=True)
def test_the_values_of_a_test_survive_a_resumption_behind_the_last_checkpoint(config: Config) -> None:
    path = written(config)
    fit(path)
    assert verb("test", path, "--ckpt_path", "last") == 0
    curves = scalars(run_dir(path))
    assert any(name.startswith("test/") for name in curves)
    assert verb("fit", path, "--ckpt_path", "last") == 0  # as after a kill between the last checkpoint and the adapter
    assert scalars(run_dir(path)) == curves
