"""Runs in Python, as a script or notebook makes them, with the settings of a config file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import yaml

import vlm_lit


def quiet_trainer(folder: Path, **options: Any) -> lightning.Trainer:
    """Lightning's own Trainer, on this machine's CPU, writing below `folder`."""
    given = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "default_root_dir": str(folder),
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **options,
    }
    return lightning.Trainer(**given)


def module_of(config: Path, kind: type[vlm_lit.SupervisedModule] | None = None, **changes: Any) -> Any:
    """The module that a config describes, its settings as the plain mappings that the file holds."""
    settings = yaml.safe_load(config.read_text())
    options = {**settings["model"]["init_args"], "seed": settings["seed_everything"], **changes}
    return (kind or vlm_lit.SupervisedModule)(**options)


def data_of(config: Path, **changes: Any) -> vlm_lit.ConversationDataModule:
    """The data module that a config describes."""
    settings = yaml.safe_load(config.read_text())
    model_id = settings["model"]["init_args"]["model_id"]
    options = {**settings["data"]["init_args"], "seed": settings["seed_everything"], "model_id": model_id, **changes}
    return vlm_lit.ConversationDataModule(**options)
