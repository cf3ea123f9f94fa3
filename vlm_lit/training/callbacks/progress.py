"""Progress bar of a run's optimizer steps, with the epoch that they are of."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any, Final

import lightning
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar

from vlm_lit.errors import VlmLitError

_ROOM_FOR_ALL: Final = 110  # columns that two figures take beside the bar, both times and the speed
_SHORT, _LONG = 8, 20


class _StderrOfNow:
    """Wherever `sys.stderr` leads at the time of writing; while a bar is drawn, to the line above it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _unwrapped(stream: object) -> object:
    """The stream that the command line's own one writes to."""
    return getattr(stream, "wrapped", stream)


class StepBar(RichProgressBar):
    """Counts the run's optimizer steps and tells the epoch; Lightning's own would say `Epoch 0/0` all along."""

    def _init_progress(self, trainer: lightning.Trainer) -> None:
        # Lightning's messages would be written into the bar's line: their handler has kept the terminal for itself.
        for handler in logging.getLogger("lightning.pytorch").handlers:
            if isinstance(handler, logging.StreamHandler) and _unwrapped(handler.stream) is sys.__stderr__:
                handler.setStream(_StderrOfNow())
        super()._init_progress(trainer)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{epoch_text(self.trainer, self.trainer.global_step):{len(self.validation_description)}}"

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Tell the epoch that this step is of."""
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description=self._get_train_description(0))

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Fewer and shorter columns in a narrow terminal, for the figures to be on the bar's own line."""
        from lightning.pytorch.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
        from rich.progress import TimeRemainingColumn

        described, bar, *others = super().configure_columns(trainer)
        is_wide = self._console is not None and self._console.width >= _ROOM_FOR_ALL
        bar = CustomBarColumn(
            bar_width=_LONG if is_wide else _SHORT, complete_style=self.theme.progress_bar,
            finished_style=self.theme.progress_bar_finished, pulse_style=self.theme.progress_bar_pulse,
        )  # fmt: skip
        short = [BatchesProcessedColumn(style=self.theme.batch_progress), TimeRemainingColumn()]
        return [described, bar, *(others if is_wide else short)]

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End the bar's line: what is said after it begins a line of its own."""
        super().on_train_end(trainer, pl_module)
        self._stop_progress()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The same after `validate`."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "validate":
            self._stop_progress()

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The same after `test`."""
        super().on_test_end(trainer, pl_module)
        self._stop_progress()

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The same after `predict`."""
        super().on_predict_end(trainer, pl_module)
        self._stop_progress()


class PlainStepBar(TQDMProgressBar):
    """The same without the package `rich`."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, *others: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Name the bar for what it counts."""
        total = self.total_train_batches
        self.train_progress_bar.reset(int(total) if math.isfinite(total) else None)
        self.train_progress_bar.set_description(epoch_text(trainer, trainer.global_step))

    def on_train_batch_start(self, trainer: lightning.Trainer, *others: Any) -> None:  # noqa: ANN401
        """Tell the epoch that this step is of."""
        self.train_progress_bar.set_description(epoch_text(trainer, trainer.global_step), refresh=False)


def epoch_text(trainer: lightning.Trainer, step: int) -> str:
    """`epoch 2/3`; `step` where the data's length is not known.

    Args:
        trainer: with the run's data module.
        step: optimizer steps done so far.
    """
    data = getattr(trainer, "datamodule", None)
    try:
        in_epoch, total = int(data.steps_per_epoch), int(data.total_steps)  # type: ignore[union-attr]
    except (AttributeError, VlmLitError):  # somebody's own data module, or a stream
        return "step"
    epochs = max(1, -(-total // in_epoch))
    return f"epoch {min(step // in_epoch + 1, epochs)}/{epochs}"


def progress_bar() -> ProgressBar:
    """The bar for what is installed."""
    try:
        return StepBar()
    except ModuleNotFoundError:
        return PlainStepBar()
