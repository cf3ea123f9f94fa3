"""What goes into a run's TensorBoard file? Everything logged but Lightning's count of epochs, of which there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class RunLogger(TensorBoardLogger):
    """TensorBoard without the `epoch` curve: a whole run is one Lightning epoch, so it would be a line at zero.

    Args:
        args: as TensorBoardLogger.
        purge_step: what earlier processes logged from this step on is not shown; null shows everything.
        kwargs: as TensorBoardLogger.
    """

    def __init__(self, *args: Any, purge_step: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        if purge_step is not None:
            kwargs["purge_step"] = purge_step
        super().__init__(*args, **kwargs)
        self.purge_step = purge_step
        self.last_step: int | None = None
        self.last_figures: dict[str, float] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        if step != self.last_step:
            self.last_step, self.last_figures = step, {}
        self.last_figures |= {name: float(value) for name, value in shown.items()}
        super().log_metrics(shown, step)
