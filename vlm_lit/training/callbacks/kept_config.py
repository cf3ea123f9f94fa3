"""Which settings did a run have? The whole config, kept beside its results and in TensorBoard."""

from __future__ import annotations

from pathlib import Path

import lightning
import yaml
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger

from vlm_lit.whole_file import write_whole


class KeptConfig(Callback):
    """Writes the full config beside the results, and logs it as hyperparameters, once the run is sure to start.

    Args:
        run_dir: where the run writes.
        verb: fit, validate, test or predict.
        text: the config as YAML.
    """

    def __init__(self, run_dir: Path, verb: str, text: str) -> None:
        self.path = run_dir / ("config.yaml" if verb == "fit" else f"config.{verb}.yaml")
        self.text = text

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """The model is loaded, and the checkpoint, if there is one, was found to be this run's."""
        self._write(trainer)
        for logger in trainer.loggers:
            logger.log_hyperparams(flattened(yaml.safe_load(self.text)))
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_text("config", f"```yaml\n{self.text}\n```", trainer.global_step)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """TensorBoard's table of hyperparameters shows them beside where the run ended."""
        # The overall values: what stands behind another slash is a group or a detail.
        names = map(str, trainer.callback_metrics)
        shown = [n for n in names if n == "train/loss" or (n.startswith("val/") and n.count("/") == 1)]
        ended = {f"final/{name}": float(trainer.callback_metrics[name]) for name in shown}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and ended:
                logger.log_hyperparams(flattened(yaml.safe_load(self.text)), ended)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """The same for `validate`."""
        if trainer.state.fn == "validate":
            self._write(trainer)

    def on_test_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """The same for `test`."""
        self._write(trainer)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """The same for `predict`."""
        self._write(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_whole(self.path, self.text)


def flattened(settings: object, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted names; classes by their path alone."""
    if not isinstance(settings, dict):
        return {prefix: settings if isinstance(settings, (int, float, str, bool)) else str(settings)}
    inner = settings.get("init_args") if "class_path" in settings else None
    pairs = {**settings, **inner} if isinstance(inner, dict) else settings
    flat: dict[str, object] = {}
    for key, value in pairs.items():
        if key != "init_args":
            flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
