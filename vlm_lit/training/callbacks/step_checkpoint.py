"""When is a run's state kept, and which state is the newest whole one?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.schema import ConfigError, StepWindow
from vlm_lit.training.checkpoint_io import checked_step, sweep_orphans

FOLDER: Final = "checkpoints"
_NAME = re.compile(r"step-(\d+)\.ckpt")


class StepCheckpoint(Callback):
    """Keeps trained weights, optimizer and position after an optimizer step; never in between.

    A step is over when its figures are logged and the validation that follows it has ended, so a checkpoint is
    written when the next step begins: whatever belongs to a step is either before the checkpoint or done again.

    Args:
        every_n_steps: optimizer steps between checkpoints; one is kept at the end of the run in any case.
        keep: how many of the newest stay.
    """

    def __init__(self, every_n_steps: int = 100, keep: int = 2) -> None:
        if every_n_steps < 1 or keep < 1:
            raise ConfigError("StepCheckpoint: every_n_steps and keep must be at least 1.")
        self.every_n_steps, self.keep = every_n_steps, keep
        self._kept = 0

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Clear away what killed writers left."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / FOLDER
        sweep_orphans(folder)
        if trainer.ckpt_path is None and (earlier := checkpoints(folder)):
            rank_zero_info(
                f"{folder} holds checkpoints of an earlier run, the last one {earlier[-1].name}. This run will replace "
                "them. To go on from there instead, stop now and add --ckpt_path last."
            )

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Where the run begins, nothing new is to be kept."""
        self._kept = trainer.global_step

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepWindow, batch_idx: int
    ) -> None:
        """Save the state after the previous step, if that one is due."""
        if trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save the final state."""
        self._save(trainer)

    def _save(self, trainer: LightningTrainer) -> None:
        # Ranks must agree on whether to save: they wait for each other in it. So no look at the disk decides.
        if trainer.global_step == self._kept:
            return
        self._kept = trainer.global_step
        for logger in trainer.loggers:
            logger.save()  # pictures lie unflushed, and a resumed run does not draw again what is before its checkpoint
        folder = Path(trainer.default_root_dir) / FOLDER
        trainer.save_checkpoint(folder / f"step-{trainer.global_step:06d}.ckpt", weights_only=False)
        if trainer.is_global_zero:
            for old in _superseded(folder, trainer.global_step, self.keep):
                old.unlink()


def _superseded(folder: Path, step: int, keep: int) -> list[Path]:
    """The checkpoints to delete: beyond `step` they lie on a course that the run has left, else they are too old."""
    found = checkpoints(folder)
    ahead = [path for path in found if _step(path) > step]
    return ahead + [path for path in found if path not in ahead][:-keep]


def _step(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    return int(name.group(1)) if name else -1


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest step first."""
    return sorted((path for path in folder.glob("step-*.ckpt") if _step(path) >= 0), key=_step)


def newest_checkpoint(run_dir: Path) -> Path:
    """The last whole state of a run; a damaged one is named on stderr and passed over.

    Raises:
        ConfigError: there is none; going on from nothing would be a silent restart.
    """
    found = checkpoints(run_dir / FOLDER)
    for path in reversed(found):
        try:
            checked_step(path)
        except ConfigError as error:
            print(f"warning: {error} Trying the one before it.", file=sys.stderr)
        else:
            return path
    raise ConfigError(
        f"{run_dir / FOLDER} holds no {'whole ' if found else ''}checkpoint to go on from. "
        "Start the run without --ckpt_path last."
    )
