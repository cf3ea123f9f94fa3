"""What goes into a run's TensorBoard file? Everything logged but Lightning's count of epochs, of which there is one."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger


class RunLogger(TensorBoardLogger):
    """TensorBoard without the `epoch` curve: a whole run is one Lightning epoch, so it would be a line at zero."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)
