"""Runs through the command line within this process, and modules with data but without a trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vlm_lit.cli import main
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.curve_tags import logged_as

__all__ = ["TensorBoardLogger", "fit", "run_dir", "scalars", "verb"]


def run_dir(config: Path) -> Path:
    """The run directory that a config names."""
    return Path(yaml.safe_load(config.read_text())["run_dir"])


def verb(name: str, config: Path, *more: str) -> int:
    """The exit status of one verb."""
    return main([name, "--config", str(config), *more])


def fit(config: Path, *more: str) -> VlmLitCLI:
    """A finished `fit`, with its trainer and module."""
    return VlmLitCLI("fit", ["--config", str(config), *more])


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar in a run's TensorBoard event files, by the name it was logged as, as (step, value)."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {logged_as(tag): [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def checkpoint(folder: Path, step: int) -> dict[str, Any]:
    """A checkpoint's contents."""
    path = folder / "checkpoints" / f"step-{step:06d}.ckpt"
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def predictions(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's predictions.jsonl."""
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
