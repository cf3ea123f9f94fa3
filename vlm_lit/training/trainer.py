"""Lightning's Trainer over optimizer steps: the length of a run, and options that mean something else here.

One Lightning batch is one optimizer step and the whole run is one Lightning epoch, so that no partly accumulated
gradient and no epoch border exists for a resumption to fall into. Users keep their habits: `max_epochs: 3` means
three epochs, `val_check_interval` counts in epochs (a fraction) or in optimizer steps (an integer).
The same holds for Lightning's own Trainer, whose options `callbacks/epoch_schedule.py` turns into steps in `setup`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning

from vlm_lit.data.run_length import lightning_length
from vlm_lit.errors import ConfigError
from vlm_lit.training.ranks import check_strategy


class Trainer(lightning.Trainer):
    """Lightning's Trainer over optimizer steps.

    Args:
        max_epochs: how often the training data is seen; null for once, or for as often as max_steps takes.
        max_steps: optimizer steps after which the run ends, if that is sooner; -1 for no such limit.
        limit_train_batches: optimizer steps of an epoch (an integer) or a share of it (a fraction); null for all.
        val_check_interval: validate every so many epochs (a fraction) or optimizer steps (an integer).
        check_val_every_n_epoch: validate only after every n-th epoch; beside a val_check_interval of its own, 1.
        accumulate_grad_batches: not used; say data.effective_batch and data.micro_batch.
        gradient_clip_val: not used; say model.gradient_clip.
        kwargs: everything else Lightning's Trainer takes.
    """

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        max_steps: int = -1,
        limit_train_batches: int | float | None = None,
        val_check_interval: int | float | None = None,
        check_val_every_n_epoch: int | None = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        **kwargs: Any,  # noqa: ANN401 - Lightning's own options, passed through
    ) -> None:
        _check_replaced(accumulate_grad_batches, gradient_clip_val, kwargs.get("gradient_clip_algorithm"))
        check_strategy(kwargs.get("strategy", "auto"))
        if (every := kwargs.get("log_every_n_steps")) is not None and every < 0:
            raise ConfigError(f"trainer.log_every_n_steps is {every}; it must be at least 1, or 0 to log nothing.")
        if kwargs.get("barebones"):
            raise ConfigError(
                "trainer.barebones leaves out logging, checkpoints and callbacks, by which a run here writes its "
                "results. Leave it out; how fast a run is stands in train/samples_per_second."
            )
        # Lightning reads 2.0 as two batches; here a fraction counts epochs, whatever its size.
        several = isinstance(val_check_interval, float) and val_check_interval > 1
        super().__init__(
            max_epochs=1 if max_epochs is None and max_steps < 0 else max_epochs,
            max_steps=max_steps,
            limit_train_batches=limit_train_batches,
            val_check_interval=None if several else val_check_interval,
            check_val_every_n_epoch=check_val_every_n_epoch,
            **kwargs,
        )
        check_strategy(self.strategy)
        self.run_length = lightning_length(self)
        if isinstance(val_check_interval, float) and several and not kwargs.get("fast_dev_run"):
            self.run_length = replace(self.run_length, validate_every=val_check_interval)
        self.run_folder = kwargs.get("default_root_dir")


def check_options(trainer: lightning.Trainer) -> None:
    """Refuse what a Trainer was given that has no effect here, or a wrong one.

    Raises:
        ConfigError: naming the option, and ours.
    """
    _check_replaced(trainer.accumulate_grad_batches, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
    check_strategy(trainer.strategy)


def _check_replaced(
    accumulate_grad_batches: int, gradient_clip_val: int | float | None, clip_algorithm: str | None
) -> None:
    if accumulate_grad_batches != 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches has no effect here: a batch of the data module is a whole optimizer step. "
            "Set data.init_args.effective_batch (conversations a step) and data.init_args.micro_batch."
        )
    if gradient_clip_val is not None:
        raise ConfigError("trainer.gradient_clip_val has no effect here; set model.init_args.gradient_clip.")
    if clip_algorithm == "value":
        raise ConfigError(
            "trainer.gradient_clip_algorithm is value, and gradients are clipped by their norm alone here. Leave it "
            "out; model.init_args.gradient_clip is the largest norm."
        )


def run_folder(trainer: lightning.Trainer) -> Path:
    """Where a run's adapter and results go: the folder it was given, else its logger's, where Lightning keeps its own.

    Not `trainer.log_dir`: that waits for all processes, and one alone writes.
    """
    given = getattr(trainer, "run_folder", None)
    logged = getattr(trainer.logger, "log_dir", None) or getattr(trainer.logger, "save_dir", None)
    return Path(given or logged or trainer.default_root_dir)
