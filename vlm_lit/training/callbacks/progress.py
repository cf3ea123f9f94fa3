"""How far is the run? A bar that counts optimizer steps."""

from __future__ import annotations

import math
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar


class StepBar(RichProgressBar):
    """Counts the run's optimizer steps; Lightning's own would say `Epoch 0/0` all along."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{'Step':{len(self.validation_description)}}"


class PlainStepBar(TQDMProgressBar):
    """The same without the package `rich`."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, *others: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Name the bar for what it counts."""
        total = self.total_train_batches
        self.train_progress_bar.reset(int(total) if math.isfinite(total) else None)
        self.train_progress_bar.set_description("Step")


def progress_bar() -> ProgressBar:
    """The bar for what is installed."""
    try:
        return StepBar()
    except ModuleNotFoundError:
        return PlainStepBar()
