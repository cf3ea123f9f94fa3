"""Checkpoints after optimizer steps, and the search for the newest whole one."""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.hooks import RemovableHandle

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.files.disk_errors import disk_refusal
from vlm_lit.files.staged import sweep
from vlm_lit.schema import StepBatch
from vlm_lit.training.checkpoint_io import sound
from vlm_lit.training.optimization import restate_learning_rates
from vlm_lit.training.position import place_behind_step
from vlm_lit.training.ranks import ranks_of
from vlm_lit.training.run_logger import RunLogger
from vlm_lit.training.slurm_job import requeue_if_wanted
from vlm_lit.training.stop_signals import StopSignals, requeue_signals
from vlm_lit.training.trainer import run_folder

FOLDER: Final = "checkpoints"
_NAME = re.compile(r"step-(\d+)\.ckpt")


class StepCheckpoint(Callback):
    """Keeps trained weights, optimizer and position after an optimizer step; never in between.

    A checkpoint is written before each validation, so that a death in it loses nothing, and when a step begins behind
    one that is due by number or by time: what belongs to a step is either before the checkpoint or done again.
    A signal to stop ends the run at the next such place; after an error, the last finished step is kept.

    Args:
        every_n_steps: optimizer steps between checkpoints; one is kept at the end of the run in any case.
        keep: how many of the newest stay.
        every_minutes: minutes after which one is written even so; null for no such limit.
    """

    def __init__(self, every_n_steps: int = 100, keep: int = 2, every_minutes: float | None = 10.0) -> None:
        if every_n_steps < 1 or keep < 1:
            raise ConfigError("StepCheckpoint: every_n_steps and keep must be at least 1.")
        if every_minutes is not None and not every_minutes > 0:
            raise ConfigError("StepCheckpoint: every_minutes must be above zero, or null.")
        self.every_n_steps, self.keep, self.every_minutes = every_n_steps, keep, every_minutes
        self.command: str | None = None
        """What a user types to go on; set by whoever knows. None names the checkpoint for `Trainer.fit`."""
        self.signals = StopSignals()
        self._kept, self._kept_at = 0, 0.0
        self._validation_due = False  # of the state that was kept last
        self._running = self._torn = False
        self._figures: dict[str, float] = {}
        self._planned: int | None = None
        self._hooks: list[RemovableHandle] = []
        self._requeue_at: tuple[signal.Signals, ...] = ()

    # Where a run begins --------------------------------------------------------------------------------------------

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Take SLURM's signals from Lightning, before it has its handlers in place."""
        self._requeue_at += requeue_signals(trainer._accelerator_connector.cluster_environment)

    def on_load_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put Lightning's loops behind the step that the checkpoint was written at."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.max_epochs != 1:
            return  # no training, or not in our Trainer's one epoch
        self._validation_due = bool(checkpoint.get("validation_due"))
        self._figures = dict(checkpoint.get("figures") or {})
        self._planned = checkpoint.get("course", {}).get("total_steps")
        total = getattr(trainer.datamodule, "total_steps", None)  # type: ignore[attr-defined]
        step = int(checkpoint["global_step"])
        if self._validation_due or total is None or step < total:
            place_behind_step(checkpoint, validation_due=self._validation_due)
        elif step == total:
            rank_zero_info(
                f"The run has all of its {total} steps, so nothing is trained. To train on, set trainer.max_epochs or "
                "trainer.max_steps higher."
            )

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Clear away what killed writers left."""
        if not trainer.is_global_zero:
            return
        folder = run_folder(trainer) / FOLDER
        for place in (folder, folder.parent):
            sweep(place)
        if self.command is None and trainer.ckpt_path is None and (earlier := checkpoints(folder)):
            # The command line refuses this.
            rank_zero_info(
                f"{folder} holds checkpoints of an earlier run, the last one {earlier[-1].name}. This run will replace "
                "them. To go on from there instead, stop now and give fit its ckpt_path."
            )

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Where the run begins, nothing new is to be kept."""
        self._kept, self._kept_at = trainer.global_step, time.monotonic()
        self._running, self._torn = True, False
        self._hooks = [o.register_step_pre_hook(self._tear) for o in trainer.optimizers]
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.void_earlier()  # not before: the checkpoint is accepted, optimizer and all
                if self._validation_due and logger.purge_step == trainer.global_step - 1 and self._figures:
                    # Voiding what the unfinished validation logged at this step took the step's own figures as well.
                    logger.log_metrics(self._figures, trainer.global_step - 1)
        self._say_course(trainer)
        self.signals.watch(*self._requeue_at)

    def _say_course(self, trainer: LightningTrainer) -> None:
        """Train on: the schedule is that of the longer run from here on, and word of it."""
        total = getattr(trainer.datamodule, "total_steps", None)  # type: ignore[attr-defined]
        if self._planned is None or total is None or total <= self._planned or trainer.global_step == 0:
            return
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        before, now = restate_learning_rates(schedulers)
        step = trainer.global_step
        rank_zero_info(
            f"Training on from step {step}: {total} steps instead of {self._planned}. The learning rate of the next "
            f"step is {now:.3g} (it was {before:.3g}): the schedule is the one of {total} steps from here on. The "
            f"{step} steps so far had another, so this is not the run that {total} steps from the start would be."
        )

    # When its state is kept ----------------------------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """Save the state after the previous step if one is due, or if the run is asked to stop."""
        stop = self.signals.received is not None
        asked = stop or self._time_is_up()
        # Ranks wait for each other in a save, so one's signal or clock is everyone's.
        ranks = ranks_of(trainer)
        asked = ranks.any(asked)
        stop = asked and ranks.any(stop)
        if asked or trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)
        if stop:
            self._stop(trainer)

    def _time_is_up(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._kept_at > 60 * self.every_minutes

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """The step is whole: weights, optimizer and schedule."""
        self._torn = False

    def on_validation_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save before a validation within `fit`."""
        if self._running and not trainer.sanity_checking:
            self._save(trainer, validation_due=True)

    def on_validation_batch_end(
        self,
        trainer: LightningTrainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave a validation if the run is asked to stop: its step is kept. Ranks differ in batches, so one alone."""
        if self._running and self.signals.received is not None and trainer.world_size == 1:
            self._stop(trainer)

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save the final state."""
        self._save(trainer)
        self._end()

    def on_exception(self, trainer: LightningTrainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep the last finished step, if it is still all there, and say how to go on."""
        if not self._running:
            return
        try:
            words = self._words(trainer, kept=self._save_after_error(trainer))
        except Exception as error:  # the first error is the one to be seen
            reason = disk_refusal(error) or " ".join(str(error).split())
            words = self._words(trainer, kept=False)
            if str(error) != str(exception):
                words = f"Step {trainer.global_step} could not be kept: {reason}\n{words}"
        finally:
            self._end()
        if not trainer.is_global_zero:
            return
        print(words, file=sys.stderr, flush=True)
        if isinstance(exception, Exception) and not isinstance(exception, VlmLitError):
            exception.add_note(words)  # stands below the traceback

    # How -------------------------------------------------------------------------------------------------------------

    def _tear(self, *_: object) -> None:
        """From here to the end of the step, its state is neither the old one nor the new one."""
        self._torn = True

    def _stop(self, trainer: LightningTrainer) -> None:
        number = int(ranks_of(trainer).most(int(self.signals.received or 0)))  # it may be another rank that has it
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if trainer.is_global_zero and self._requeue_at:
            requeue_if_wanted(number, self._requeue_at)
        raise SIGTERMException(128 + number)

    def _end(self) -> None:
        self._running = False
        self.signals.restore()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _save_after_error(self, trainer: LightningTrainer) -> bool:
        """Whether the last finished step is kept."""
        if self._torn or self.signals.at_once:
            return self._kept == trainer.global_step
        # In between its end and its validation a step's figures are not all logged.
        over = trainer.fit_loop.epoch_loop._batches_that_stepped >= trainer.global_step
        if trainer.validating or over:
            self._save(trainer, validation_due=trainer.validating, alone=True)
        return self._kept == trainer.global_step

    def _words(self, trainer: LightningTrainer, *, kept: bool) -> str:
        folder = run_folder(trainer) / FOLDER
        found = checkpoints(folder)
        if not found:
            return "No optimizer step was finished, so nothing was kept. The same command starts again."
        begin = f"Step {trainer.global_step} is kept in" if kept else "The last step that is kept is in"
        return f"{begin} {found[-1]}. To go on from there:\n  {self.command or _in_python(found[-1])}"

    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say whether the step's validation is still to be done, and what a purge of it would take along."""
        checkpoint["validation_due"] = self._validation_due
        for logger in trainer.loggers:
            if self._validation_due and isinstance(logger, RunLogger) and logger.last_step == trainer.global_step - 1:
                checkpoint["figures"] = dict(logger.last_figures)

    def _save(self, trainer: LightningTrainer, *, validation_due: bool = False, alone: bool = False) -> None:
        # Ranks must agree on whether to save: they wait for each other in it. So no look at the disk decides.
        step = trainer.global_step
        if step == self._kept and (validation_due or not self._validation_due):
            return
        self._validation_due = validation_due
        for logger in trainer.loggers:
            logger.save()  # pictures lie unflushed, and a resumed run does not draw again what is before its checkpoint
        folder = run_folder(trainer) / FOLDER
        path = folder / f"step-{step:06d}.ckpt"
        if alone:  # after an error no other rank comes to meet this one
            if trainer.is_global_zero:
                state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
                trainer.strategy.checkpoint_io.save_checkpoint(state, path)
        else:
            trainer.save_checkpoint(path, weights_only=False)
        self._kept, self._kept_at = step, time.monotonic()
        if trainer.is_global_zero:
            for old in _superseded(folder, step, self.keep):
                old.unlink()


def _in_python(path: Path) -> str:
    return f'trainer.fit(module, datamodule=data, ckpt_path="{path}")'


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
    """The last whole state of a run; one that is damaged or lacks something is named on stderr and passed over.

    Raises:
        ConfigError: there is none; going on from nothing would be a silent restart.
    """
    found = checkpoints(run_dir / FOLDER)
    for path in reversed(found):
        try:
            sound(path, resumes=True)
        except ConfigError as error:
            print(f"warning: {error} Trying the one before it.", file=sys.stderr)
        else:
            return path
    raise ConfigError(f"{run_dir / FOLDER} holds no {'whole ' if found else ''}checkpoint to go on from.")
