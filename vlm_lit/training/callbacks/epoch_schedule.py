"""Epochs over the data as steps of one Lightning epoch, and the parts table printed before the start."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities import rank_zero_info
from torch.optim.lr_scheduler import LambdaLR

from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.run_length import length_of, lightning_length
from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.models.parts import format_table
from vlm_lit.schema import StepBatch
from vlm_lit.training.protocols import Tabulated


class EpochSchedule(Callback):
    """Turns epochs into optimizer steps of one Lightning epoch, and counts them as Lightning would."""

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Make the run one epoch, and set after how many steps to validate: the data's length is known now."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "fit" or not isinstance(data, StepDataModule):
            return
        length = length_of(trainer) or lightning_length(trainer)
        trainer.run_length = length  # type: ignore[attr-defined]
        if "val" not in data.datasets:
            trainer.limit_val_batches = 0
        trainer.fit_loop.max_epochs, trainer.fit_loop.min_epochs = 1, 0
        trainer.limit_train_batches, trainer.check_val_every_n_epoch = 1.0, 1
        trainer.overfit_batches = 0  # type: ignore[attr-defined]
        total = data.total_steps
        streamed = isinstance(data.datasets["train"], StreamedSteps)
        per_epoch = total if streamed else data.steps_per_epoch
        trainer.val_check_interval = length.validation_steps(per_epoch, total)
        if length.least_epochs:
            trainer.fit_loop.epoch_loop.min_steps = max(trainer.min_steps or 0, length.least_epochs * per_epoch)

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Let a learning rate that was just found be the schedule's peak: Lightning sets the first step's alone."""
        found = [c.optimal_lr for c in trainer.callbacks if isinstance(c, LearningRateFinder)]  # type: ignore[attr-defined]
        rate = found[-1].suggestion() if found and found[-1] is not None else None
        if rate is None or trainer.global_step > 0:
            return
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):
                _set_peak(config.scheduler, rate)

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """Figures are logged at the optimizer steps done so far; after a resumption Lightning would count one more."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        _count_epochs(trainer)

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """After the run, the epoch is the number of finished ones."""
        _count_epochs(trainer)

    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the loop's own count of epochs: a resumed loop goes on within the one that the run is."""
        counts = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        counts["completed"] = counts["processed"]


def _count_epochs(trainer: LightningTrainer) -> None:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if isinstance(data, StepDataModule) and not isinstance(data.datasets["train"], StreamedSteps):
        # Where loggers, checkpoints and users read `current_epoch`; Lightning itself looks at `processed`.
        trainer.fit_loop.epoch_progress.current.completed = trainer.global_step // data.steps_per_epoch


def _set_peak(scheduler: LambdaLR, rate: float) -> None:
    for i, group in enumerate(scheduler.optimizer.param_groups):
        scheduler.base_lrs[i] = group["initial_lr"] = rate
        group["lr"] = rate * scheduler.lr_lambdas[i](scheduler.last_epoch)


class PartsTable(Callback):
    """Prints what each part of the model holds and trains."""

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Print the table, and how long the run is."""
        if isinstance(pl_module, Tabulated):
            rank_zero_info("\n" + format_table(pl_module.parts_table()))
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, StepDataModule):
            rank_zero_info(f"{data.total_steps} optimizer steps of {data.effective_batch} {data.items}")
