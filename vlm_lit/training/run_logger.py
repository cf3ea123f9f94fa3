"""A run's TensorBoard log, in the order of its page: loss, learning rates and validation scores first."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger

from vlm_lit.curve_tags import scalar_tag


class RunLogger(TensorBoardLogger):
    """TensorBoard with every scalar in its group, and without the `epoch` curve: a run is one Lightning epoch."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        super().log_metrics({scalar_tag(name): value for name, value in metrics.items() if name != "epoch"}, step)
