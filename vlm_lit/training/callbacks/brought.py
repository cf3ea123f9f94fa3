"""Callbacks that the module brings to a Trainer that has none of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import lightning
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint

from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.best_checkpoint import BestCheckpoint
from vlm_lit.training.callbacks.epoch_schedule import EpochSchedule
from vlm_lit.training.callbacks.feature_cache import FeatureCache
from vlm_lit.training.callbacks.kept_answers import KeptAnswers
from vlm_lit.training.callbacks.kept_config import KeptConfig
from vlm_lit.training.callbacks.lost_ranks import LostRanks
from vlm_lit.training.callbacks.monitored import StopAfterValidation, refuse_unfit_callbacks
from vlm_lit.training.callbacks.pictures import AnswerPicture
from vlm_lit.training.callbacks.run_directory import RunDirectory
from vlm_lit.training.callbacks.sampled_answers import SampledAnswers
from vlm_lit.training.callbacks.shortcuts import KeptShortcuts
from vlm_lit.training.callbacks.step_checkpoint import StepCheckpoint
from vlm_lit.training.checkpoint_io import DurableCheckpointIO
from vlm_lit.training.trainer import check_options

_WRITERS: Final = (RunDirectory, StepCheckpoint, BestCheckpoint, KeptConfig, AnswerPicture)


def brought(trainer: lightning.Trainer) -> list[Callback]:
    """What `trainer` lacks: its epochs counted, and the run's adapter and results written.

    Raises:
        ConfigError: an option or a callback of the trainer has no effect here, or it has trained before.
    """
    check_options(trainer)
    refuse_unfit_callbacks(trainer.callbacks)  # type: ignore[attr-defined]
    # It asks for the weights before the step; a checkpoint here is of those behind it.
    warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
    if trainer.state.fn == "fit" and trainer.global_step > 0 and trainer.ckpt_path is None:
        raise ConfigError(
            f"This Trainer has already made {trainer.global_step} optimizer steps. Make a new one for a new run; to go "
            "on from a checkpoint, give the new one fit(..., ckpt_path=...)."
        )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    tries: bool | int = trainer.fast_dev_run  # type: ignore[attr-defined]
    if tries:  # it writes nothing
        callbacks = [callback for callback in callbacks if not isinstance(callback, _WRITERS)]
    # These decide before the others look.
    trainer.callbacks = [*_lacking(callbacks, StopAfterValidation, EpochSchedule, FeatureCache), *callbacks]  # type: ignore[attr-defined]
    if tries or any(isinstance(callback, SampledAnswers) for callback in callbacks):  # which are no run's results
        return []
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # which a full disk makes destroy the file before
        trainer.strategy.checkpoint_io = DurableCheckpointIO()
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)  # as enable_checkpointing says
    return _lacking(
        callbacks, *([StepCheckpoint] if keeps else []), KeptShortcuts, KeptAnswers, RunDirectory, LostRanks
    )


def _lacking(callbacks: Sequence[Callback], *kinds: type[Callback]) -> list[Callback]:
    present = tuple(type(callback) for callback in callbacks)
    return [kind() for kind in kinds if not any(issubclass(one, kind) for one in present)]
