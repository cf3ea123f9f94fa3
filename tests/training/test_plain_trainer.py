"""What does Lightning's own Trainer do with the module and the data module in a script or a notebook?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from plain_runs import data_of, module_of, quiet_trainer
from runs import fit, run_dir, scalars

from vlm_lit.schema import ConfigError

_COMPARED = ("train/loss", "train/gradient_norm", "train/learning_rate/language_model", "val/vqa_accuracy")


def _figures(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = scalars(folder)
    return {name: found[name] for name in _COMPARED}


def test_plain_trainer_trains_as_the_command_line_does(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(trainer={"max_epochs": 3}, model={"lora": {"dropout": 0.1}})
    fit(path)
    trainer = quiet_trainer(tmp_path / "plain", max_epochs=3)
    trainer.fit(module_of(path), data_of(path))
    logged = tmp_path / "plain" / "lightning_logs" / "version_0"
    assert _figures(logged) == _figures(run_dir(path))
    assert len(_figures(logged)["train/loss"]) == 9
    assert sorted(set(scalars(logged)["epoch"])) == [(step, step // 3) for step in range(9)]
    adapters = [folder / "adapter" / "adapter_model.safetensors" for folder in (logged, run_dir(path))]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert trainer.current_epoch == 3
