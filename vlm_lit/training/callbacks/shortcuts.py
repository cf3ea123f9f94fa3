"""Record of the shortcuts that a run takes, kept beside its config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.data.token_rows import TokenRows
from vlm_lit.files.whole import write_whole
from vlm_lit.training.trainer import run_folder

FILE: Final = "shortcuts.json"


class KeptShortcuts(Callback):
    """Writes `shortcuts.json`: whether questions share rows and features come from disk, and if not, why."""

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Keep what is taken: it is known before weights are loaded."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TokenRows):
            return
        reason = data.shortcuts.unpackable if data.packing else "data.packing is false"
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _keep(run_folder(trainer), data, reason)


def _keep(run: Path, data: TokenRows[Any], unpacked: str | None) -> None:
    found = {
        "packing": unpacked is None,
        "packing_refused": unpacked,
        "feature_cache": data.feature_cache,
        "answers_from_features": data.feature_cache is not None and data.shortcuts.answers_from_features,
    }
    write_whole(run / FILE, json.dumps(found, indent=2) + "\n")
