"""Callbacks, plugins and logger that a run's trainer is given beside its config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar

from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.answer_limit import AnswerLimit
from vlm_lit.training.callbacks.answers_table import AnswersTable
from vlm_lit.training.callbacks.best_checkpoint import BestCheckpoint
from vlm_lit.training.callbacks.confusion import ConfusionMatrix
from vlm_lit.training.callbacks.epoch_schedule import EpochSchedule, PartsTable
from vlm_lit.training.callbacks.feature_cache import FeatureCache
from vlm_lit.training.callbacks.kept_answers import KeptAnswers
from vlm_lit.training.callbacks.lost_ranks import LostRanks
from vlm_lit.training.callbacks.monitored import (
    StopAfterValidation,
    refuse_lightnings_checkpoints,
    refuse_unfit_callbacks,
)
from vlm_lit.training.callbacks.numbers import NumbersPlot
from vlm_lit.training.callbacks.panel import PredictionPanel
from vlm_lit.training.callbacks.progress import progress_bar
from vlm_lit.training.callbacks.reliability import ReliabilityDiagram
from vlm_lit.training.callbacks.results_table import ResultsTable
from vlm_lit.training.callbacks.returned_memory import ReturnedMemory
from vlm_lit.training.callbacks.run_directory import RunDirectory
from vlm_lit.training.callbacks.shortcuts import KeptShortcuts
from vlm_lit.training.callbacks.step_checkpoint import StepCheckpoint
from vlm_lit.training.callbacks.throughput import Throughput
from vlm_lit.training.checkpoint_io import DurableCheckpointIO
from vlm_lit.training.run_logger import RunLogger

_OURS: Final[tuple[type[Callback], ...]] = (
    FeatureCache, EpochSchedule, KeptShortcuts, KeptAnswers, PartsTable, Throughput, ReturnedMemory, PredictionPanel,
    AnswersTable, ConfusionMatrix, ReliabilityDiagram, NumbersPlot, ResultsTable, LostRanks, StepCheckpoint,
    RunDirectory, AnswerLimit,
)  # fmt: skip


def trainer_arguments(
    asked: Mapping[str, Any], run_dir: Path, *, best: BestCheckpoint | None, purge_step: int | None, ours: bool
) -> dict[str, Any]:
    """What a trainer is made with besides `asked`: it writes into the run directory.

    Args:
        asked: the config's section `trainer`, its objects made. Where it brings a callback of ours, ours is left out.
        run_dir: the run directory.
        best: what keeps the best checkpoint, if one is kept.
        purge_step: the step from which on an earlier process's figures are dropped from the log; null drops none.
        ours: whether the module is one of ours; another may step and count its epochs as Lightning does.

    Raises:
        ConfigError: it has a setting that has no effect here, Lightning's own checkpoints, or a callback that does not
            do here what it is for.
    """
    if asked.get("default_root_dir") is not None:
        raise ConfigError("trainer.default_root_dir has no effect here; set run_dir, where a run writes.")
    given = list(asked.get("callbacks") or [])
    if asked.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in given):
        given.append(progress_bar())
    present = {type(callback) for callback in given}
    refuse_lightnings_checkpoints(given, enabled=bool(asked.get("enable_checkpointing")))
    if ours:
        refuse_unfit_callbacks(given)
    # These decide before any other looks: what a checkpoint says of the best is then of its own step.
    first = [StopAfterValidation(), *([best] if best is not None else [])]
    arguments: dict[str, Any] = {
        "callbacks": [*first, *given, *(made() for made in _OURS if made not in present)],
        "default_root_dir": str(run_dir),
        "plugins": [*(asked.get("plugins") or []), DurableCheckpointIO()],
    }
    if asked.get("logger") in (None, True):
        arguments["logger"] = RunLogger(run_dir, name="", version="", default_hp_metric=False, purge_step=purge_step)
    return arguments
