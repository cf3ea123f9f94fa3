"""Length of a run in epochs over the training data, from the options of a Trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch.tuner.lr_finder import _LRCallback

from vlm_lit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """A Trainer's options about length and validation, as they were before Lightning was told that a run is one epoch.

    Args:
        epochs: how often the training data is seen; null where `max_steps` alone ends the run.
        epoch_limit: optimizer steps of an epoch (an integer) or a share of it (a fraction).
        repeated: every epoch sees the first epoch's steps again, in the same order.
        validate_every: validate every so many epochs (a fraction) or optimizer steps (an integer).
        validate_epochs: validate only after every n-th epoch, where `validate_every` is one epoch.
        least_epochs: epochs before which nothing ends the run early.
    """

    epochs: int | None = 1
    epoch_limit: int | float = 1.0
    repeated: bool = False
    validate_every: int | float = 1.0
    validate_epochs: int = 1
    least_epochs: int = 0

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(
                f"trainer.max_epochs is {self.epochs}, but the learning rate's schedule needs a run of at least one "
                "step and with an end. Set the number of epochs, or trainer.max_steps."
            )
        if self.epoch_limit <= 0:
            name = "overfit_batches" if self.repeated else "limit_train_batches"
            raise ConfigError(f"trainer.{name} is {self.epoch_limit}: nothing would be trained. Set it above zero.")
        if self.validate_epochs < 1:
            raise ConfigError(
                f"trainer.check_val_every_n_epoch is {self.validate_epochs}; it must be at least 1, or null. To leave "
                "validation out, set trainer.limit_val_batches to 0."
            )
        if self.validate_every <= 0:
            raise ConfigError(
                f"trainer.val_check_interval is {self.validate_every}; it must be above zero. To leave validation out, "
                "set trainer.limit_val_batches to 0."
            )

    def check(self) -> None:
        """Refuse options of which one would leave the other without effect; Lightning's own epochs can have them.

        Raises:
            ConfigError: naming both.
        """
        # 1 is every step, 1.0 every epoch.
        each_epoch = isinstance(self.validate_every, float) and self.validate_every == 1.0
        if self.validate_epochs > 1 and not each_epoch:
            raise ConfigError(
                f"trainer.check_val_every_n_epoch is {self.validate_epochs} and trainer.val_check_interval is "
                f"{self.validate_every}: both say when to validate. Leave one out; a val_check_interval of "
                f"{float(self.validate_epochs)} is every {self.validate_epochs} epochs."
            )
        if self.epochs is not None and self.least_epochs > self.epochs:
            raise ConfigError(
                f"trainer.min_epochs is {self.least_epochs}, and trainer.max_epochs ends the run after {self.epochs}. "
                "Set max_epochs at least as high, or leave min_epochs out."
            )

    def steps_per_epoch(self, items: int, effective_batch: int) -> int:
        """Optimizer steps of an epoch of so many items, which may end early."""
        full, limit = full_steps_per_epoch(items, effective_batch), self.epoch_limit
        return max(1, min(full, limit if isinstance(limit, int) else int(full * limit)))

    def total_steps(self, steps_per_epoch: int, max_steps: int) -> int:
        """Optimizer steps of the whole run: its epochs, or `max_steps` (where above zero) if that is fewer."""
        steps = (self.epochs or 1) * steps_per_epoch
        return min(steps, max_steps) if max_steps > 0 else steps

    def validation_steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """After how many optimizer steps to validate; never past the run's end.

        Raises:
            ConfigError: two options say when.
        """
        self.check()
        if isinstance(self.validate_every, float):
            steps = max(1, round(steps_per_epoch * self.validate_every)) * self.validate_epochs
        else:
            steps = self.validate_every
        return min(steps, total_steps)


def full_steps_per_epoch(items: int, effective_batch: int) -> int:
    """Optimizer steps in which every item is seen exactly once."""
    return -(-items // effective_batch)


def length_of(trainer: object) -> RunLength | None:
    """The length in epochs that is noted on a trainer; None where Lightning counts its epochs itself."""
    length = getattr(trainer, "run_length", None)
    return length if isinstance(length, RunLength) else None


def lightning_length(trainer: Any) -> RunLength:  # noqa: ANN401 - Lightning's Trainer, which declares few of its options
    """A run's length as a Trainer's options state it.

    Raises:
        ConfigError: the options leave the run without an end, or without a step.
    """
    epochs = trainer.max_epochs
    if trainer.max_steps == 0:
        raise ConfigError("trainer.max_steps is 0: nothing would be trained. Set it above zero, or to -1 for no limit.")
    if epochs in (None, -1) and trainer.max_steps > 0:
        epochs = None
    elif epochs is None:
        epochs = 1
    return RunLength(
        epochs=epochs,
        epoch_limit=trainer.overfit_batches or trainer.limit_train_batches,
        repeated=bool(trainer.overfit_batches),
        validate_every=1.0 if trainer._val_check_time_interval is not None else trainer.val_check_interval,
        validate_epochs=1 if trainer.check_val_every_n_epoch is None else trainer.check_val_every_n_epoch,
        least_epochs=trainer.min_epochs or 0,
    )


def searches_learning_rate(trainer: lightning.Trainer) -> bool:
    """Whether the steps that run now are those of `Tuner.lr_find`, which are no part of the run."""
    return any(isinstance(callback, _LRCallback) for callback in trainer.callbacks)  # type: ignore[attr-defined]
