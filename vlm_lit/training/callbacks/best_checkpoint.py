"""The best checkpoint of a run by a figure of its validations, kept as `checkpoints/best.ckpt`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole
from vlm_lit.schema import StepBatch
from vlm_lit.training.callbacks.monitored import monitored
from vlm_lit.training.callbacks.step_checkpoint import FOLDER
from vlm_lit.training.logged_names import Mode, logged_names
from vlm_lit.training.protocols import Validated

BEST: Final = "best.ckpt"
RECORD: Final = "best.json"


class BestCheckpoint(Callback):
    """Keeps the state after the validation whose figure is the best so far, as `checkpoints/best.ckpt`.

    `checkpoints/best.json` says which figure, at which step and how good it is. Of equal figures the earlier stays. It
    is written when the next step begins, as `StepCheckpoint` writes, and which one is the best stands in every
    checkpoint, so that a resumed run knows.

    Args:
        monitor: what to go by, for example `val/loss` or `val/vqa_accuracy`.
        mode: `min` or `max`; null takes the metric's own direction.
    """

    def __init__(self, monitor: str, mode: Mode | None = None) -> None:
        self.monitor, self.mode = monitor, mode
        self.best_step, self.best_value = 0, math.nan
        self._written = 0

    @property
    def state_key(self) -> str:
        """What its state is kept under: that of another figure is not its own."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Take the metric's own direction."""
        if stage == "fit" and self.mode is None:
            data = getattr(trainer, "datamodule", None)
            if isinstance(data, Validated):
                self.mode = logged_names(pl_module, data, [self.monitor]).modes.get(self.monitor)
            if self.mode is None:
                raise ConfigError(
                    f"keep_best: is more or less of {self.monitor} better? Set keep_best_mode to max or min."
                )

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Clear away an earlier run's best, unless it is this run that goes on."""
        if trainer.is_global_zero and trainer.ckpt_path is None:
            for name in (BEST, RECORD):
                (_folder(trainer) / name).unlink(missing_ok=True)

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Decide: every rank has the same figures."""
        if trainer.sanity_checking or trainer.fast_dev_run or trainer.state.fn != "fit":  # type: ignore[attr-defined]
            return
        value = monitored(trainer.callback_metrics, self.monitor)
        if math.isfinite(value) and (math.isnan(self.best_value) or self._better(value)):
            self.best_step, self.best_value = trainer.global_step, value

    def _better(self, value: float) -> bool:
        return value < self.best_value if self.mode == "min" else value > self.best_value

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """Save the state after the previous step, if that is the best."""
        self._save(trainer)

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save the last step's, if that is the best."""
        self._save(trainer)

    def _save(self, trainer: LightningTrainer) -> None:
        if trainer.global_step != self.best_step or self._written == self.best_step:
            return
        self._written = self.best_step
        trainer.save_checkpoint(_folder(trainer) / BEST, weights_only=False)
        if trainer.is_global_zero:
            found = {"metric": self.monitor, "mode": self.mode, "step": self.best_step, "value": self.best_value}
            write_whole(_folder(trainer) / RECORD, json.dumps(found, indent=2) + "\n")

    def on_fit_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Say which step is the best: `adapter/` holds the last one."""
        if self.best_step:
            rank_zero_info(
                f"Best {self.monitor}: {self.best_value:.4g} after step {self.best_step} of {trainer.global_step}, in "
                f"{_folder(trainer) / BEST}; test it by --ckpt_path best. adapter/ holds the last step's weights."
            )

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"step": self.best_step, "value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best so far."""
        self.best_step, self.best_value = int(state_dict["step"]), float(state_dict["value"])


def _folder(trainer: LightningTrainer) -> Path:
    return Path(trainer.default_root_dir) / FOLDER


def best_checkpoint(run_dir: Path) -> Path:
    """The best state that a run has kept.

    Raises:
        ConfigError: it has kept none.
    """
    path = run_dir / FOLDER / BEST
    if not path.is_file():
        raise ConfigError(
            f"{path} is not there: the run has kept no best checkpoint. Train with --keep_best val/loss (or another "
            "figure), or write --ckpt_path last."
        )
    return path
