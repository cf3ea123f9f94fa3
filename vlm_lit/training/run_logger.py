"""A run's TensorBoard log, in the order of its page: loss, learning rates and validation scores first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger

from vlm_lit.curve_tags import scalar_tag
from vlm_lit.training.run_events import RunEvents


class RunLogger(TensorBoardLogger):
    """TensorBoard with every scalar in its group, and without the `epoch` curve: a run is one Lightning epoch.

    Args:
        args: as TensorBoardLogger.
        purge_step: what earlier processes logged from this step on is not shown; null shows everything. It is voided
            by `void_earlier`, once the run is sure to start: one that is refused must leave the curves as they are.
        kwargs: as TensorBoardLogger.
    """

    def __init__(self, *args: Any, purge_step: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.purge_step = purge_step
        self.last_step: int | None = None
        self.last_figures: dict[str, float] = {}
        self._events: RunEvents | None = None
        self._voided = False

    @property
    @rank_zero_experiment
    def experiment(self) -> RunEvents:
        """TensorBoard's writer. Its file is made with the first entry."""
        if self._events is None:
            self._experiment = self._events = RunEvents(self.log_dir)
        return self._events

    @rank_zero_only  # type: ignore[untyped-decorator]
    def void_earlier(self) -> None:
        """Let readers forget what earlier processes logged from `purge_step` on; once is enough."""
        if self.purge_step is not None and not self._voided:
            self.experiment.void_from(self.purge_step)
        self._voided = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        if step != self.last_step:
            self.last_step, self.last_figures = step, {}
        self.last_figures |= {name: float(value) for name, value in shown.items()}
        super().log_metrics({scalar_tag(name): value for name, value in shown.items()}, step)
