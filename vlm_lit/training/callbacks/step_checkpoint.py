"""When is a run's state kept, and which state is the newest whole one?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.schema import ConfigError, StepWindow

FOLDER: Final = "checkpoints"
_NAME = re.compile(r"step-(\d+)\.ckpt")


class StepCheckpoint(Callback):
    """Keeps trained weights, optimizer and position after an optimizer step; never in between.

    Args:
        every_n_steps: optimizer steps between checkpoints; one is kept at the end of the run in any case.
        keep: how many of the newest stay.
    """

    def __init__(self, every_n_steps: int = 100, keep: int = 2) -> None:
        if every_n_steps < 1 or keep < 1:
            raise ConfigError("StepCheckpoint: every_n_steps and keep must be at least 1.")
        self.every_n_steps, self.keep = every_n_steps, keep

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: object, batch: StepWindow, batch_idx: int
    ) -> None:
        """Save if this step is due."""
        if trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save the final state."""
        self._save(trainer)

    def _save(self, trainer: LightningTrainer) -> None:
        folder = Path(trainer.default_root_dir) / FOLDER
        target = folder / f"step-{trainer.global_step:06d}.ckpt"
        if not target.exists():
            trainer.save_checkpoint(target, weights_only=False)
        if trainer.is_global_zero:
            for old in checkpoints(folder)[: -self.keep]:
                old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest step first."""
    found = [(int(m.group(1)), path) for path in folder.glob("step-*.ckpt") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_checkpoint(run_dir: Path) -> Path:
    """The last state of a run.

    Raises:
        ConfigError: there is none; going on from nothing would be a silent restart.
    """
    found = checkpoints(run_dir / FOLDER)
    if not found:
        raise ConfigError(
            f"{run_dir / FOLDER} holds no checkpoint to go on from. Start the run without --ckpt_path last."
        )
    return found[-1]
