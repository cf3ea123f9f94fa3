"""Check that monitored figures are logged by the run and in time, and early stopping after validations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelPruning,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)

from vlm_lit.errors import ConfigError
from vlm_lit.training.logged_names import LoggedNames, logged_names
from vlm_lit.training.protocols import Validated

_PACKAGES = ("vlm_lit", "lightning")
_KIND: Final = {"min": "lower", "max": "higher"}
_ONE_EPOCH: Final = "the whole run is one Lightning epoch, so"
_UNFIT: Final[dict[type[Callback], str]] = {
    WeightAveraging: "validates averaged weights, and a checkpoint (best.ckpt too) and adapter/ would hold others than "
    "were measured. Leave it out; model.init_args.schedule cosine or linear lowers the rate to zero at the end.",
    StochasticWeightAveraging: "looks for the weights before they are loaded, so it averages none, and puts a schedule "
    "of its own in the place of model.init_args.schedule. Leave it out; the schedules cosine and linear end at zero.",
    GradientAccumulationScheduler: "has no effect here: a batch of the data module is a whole optimizer step. Set "
    "data.init_args.effective_batch (conversations a step) and data.init_args.micro_batch.",
    ModelPruning: "lays masks over weights, which a checkpoint and an adapter here do not hold. Leave it out; prune "
    "the merged model, which python -m vlm_lit merge writes.",
    BatchSizeFinder: "changes a batch, which here is a whole optimizer step. Set data.init_args.micro_batch to auto: "
    "it finds the most rows that fit in memory.",
}
"""Lightning's callbacks that no run here can have, each with the reason and the remedy."""


def refuse_lightnings_checkpoints(callbacks: Sequence[Callback], *, enabled: bool = False) -> None:
    """Refuse Lightning's own checkpoints: they are written within a step or a validation.

    Args:
        callbacks: those that a config brings.
        enabled: whether the config asks for them by `enable_checkpointing`.

    Raises:
        ConfigError: there is one; names what to use instead.
    """
    named = [f"trainer.callbacks: {type(c).__name__}" for c in callbacks if isinstance(c, Checkpoint)]
    named += ["trainer.enable_checkpointing: Lightning's ModelCheckpoint"] if enabled else []
    if named:
        raise ConfigError(
            f"{named[0]} saves in the middle of a step or a validation, from where no run goes on exactly. "
            "Set keep_best (for example --keep_best val/loss) for the best weights, and "
            "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint for one every so many steps."
        )


def refuse_unfit_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse Lightning's callbacks that do not do here what they are for.

    Asked before a model is loaded.

    Raises:
        ConfigError: there is one; says why, and what to set instead.
    """
    for callback in callbacks:
        why = next((words for kind, words in _UNFIT.items() if isinstance(callback, kind)), None) or _unfit(callback)
        if why is not None:
            raise ConfigError(f"trainer.callbacks: {type(callback).__name__} {why}")


def _unfit(callback: Callback) -> str | None:
    """Why a callback's own settings do not fit a run of one Lightning epoch."""
    if isinstance(callback, Timer):
        if callback.time_remaining() is None:
            return "has no duration, so it never stops a run. Set one, as 00:12:00:00, or leave the callback out."
        if callback._interval == "epoch":
            return f"has the interval epoch, and {_ONE_EPOCH} it would never stop it. Set interval to step."
    if isinstance(callback, LearningRateMonitor) and callback.logging_interval == "epoch":
        return f"has the logging_interval epoch, and {_ONE_EPOCH} it would log one value. Set it to step."
    return None


def check_monitors(trainer: LightningTrainer, module: LightningModule, data: Validated) -> None:
    """Refuse a callback whose `monitor` the run will not log, or would look at in the wrong direction or too late.

    Asked before a model is loaded. Names that nobody knows are left alone where code of the user's own may log them.

    Raises:
        ConfigError: names the callback, the setting and the name that was probably meant.
    """
    watching = {c: str(c.monitor) for c in trainer.callbacks if getattr(c, "monitor", None)}  # type: ignore[attr-defined]
    if not watching:
        return
    if trainer.limit_val_batches == 0:
        first = type(next(iter(watching))).__name__
        raise ConfigError(f"{first} looks at a figure after each validation, but trainer.limit_val_batches is 0.")
    names = logged_names(module, data, watching.values())
    own = any(type(thing).__module__.partition(".")[0] not in _PACKAGES for thing in (module, *trainer.callbacks))  # type: ignore[attr-defined]
    for callback, monitor in watching.items():
        if monitor not in names.modes:
            if own:
                continue
            raise ConfigError(_unlogged(type(callback).__name__, monitor, names))
        mode = getattr(callback, "mode", None)
        if isinstance(callback, EarlyStopping):
            _check_stopping(callback, monitor, names)
        elif mode in _KIND and names.modes[monitor] not in (None, mode):
            raise ConfigError(_wrong_way(f"{type(callback).__name__}: mode (keep_best_mode)", mode, monitor, names))


def _unlogged(callback: str, monitor: str, names: LoggedNames) -> str:
    reasons = [reason for name, reason in names.missing.items() if monitor.startswith(name)]
    if reasons:
        return f"{callback}: nothing logs {monitor}, for {reasons[0]}."
    near = names.near(monitor)
    hint = f"Did you mean {near}?" if near else f"It logs {', '.join(names.leading)} and their breakdowns."
    return f"{callback}: monitor is {monitor}, which this run does not log. {hint}"


def _check_stopping(callback: EarlyStopping, monitor: str, names: LoggedNames) -> None:
    if "val/" in names.missing and not any(name.startswith("val/") for name in names.modes):
        raise ConfigError(f"EarlyStopping looks at {monitor} after each validation, and {names.missing['val/']}.")
    if callback._check_on_train_epoch_end:
        raise ConfigError(
            "EarlyStopping: check_on_train_epoch_end is true, but the whole run is one Lightning epoch, so it would "
            "look once, at the end. Leave it out: it looks after each validation."
        )
    if names.modes[monitor] not in (None, callback.mode):
        raise ConfigError(_wrong_way("EarlyStopping: mode", callback.mode, monitor, names))


def _wrong_way(setting: str, mode: str, monitor: str, names: LoggedNames) -> str:
    better = names.modes[monitor]
    assert better is not None
    return f"{setting} is {mode}, but {monitor} is the better the {_KIND[better]} it is. Set mode to {better}."


class StopAfterValidation(Callback):
    """Lets EarlyStopping look after each validation, and counts `min_epochs` in epochs.

    It stands before EarlyStopping among the callbacks: that one would take a run of one Lightning epoch for one that it
    need not look into.
    """

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Settle when to look, before EarlyStopping does by itself."""
        if stage != "fit":
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end is None:
                callback._check_on_train_epoch_end = False
        data = getattr(trainer, "datamodule", None)
        if trainer.min_epochs and data is not None:
            trainer.fit_loop.epoch_loop.min_steps = max(
                trainer.min_steps or 0, trainer.min_epochs * data.steps_per_epoch
            )
            trainer.fit_loop.min_epochs = None


def monitored(metrics: Mapping[str, object], monitor: str) -> float:
    """A figure as it was logged last.

    Raises:
        ConfigError: nothing has logged it.
    """
    if monitor not in metrics:
        raise ConfigError(f"Nothing has logged {monitor}. There are {', '.join(sorted(metrics))}.")
    return float(metrics[monitor])  # type: ignore[arg-type]
