"""Which settings did a run have? The whole config, kept beside its results and in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.training.run_files import remove, set_aside
from vlm_lit.training.run_settings import changed, number_settings
from vlm_lit.whole_file import write_whole


class KeptConfig(Callback):
    """Writes the full config beside the results, and logs it as hyperparameters, once the run is sure to start.

    Args:
        run_dir: where the run writes.
        verb: fit, validate, test or predict.
        text: the config as YAML.
        replaced: files of an earlier run in `run_dir`, which are deleted when this one starts.
    """

    def __init__(self, run_dir: Path, verb: str, text: str, replaced: Sequence[Path] = ()) -> None:
        self.run_dir, self.verb = run_dir, verb
        self.path = run_dir / ("config.yaml" if verb == "fit" else f"config.{verb}.yaml")
        self.text, self.replaced = text, list(replaced)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the settings that a run which goes on from here must have."""
        checkpoint["settings"] = number_settings(yaml.safe_load(self.text))

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """The model is loaded, and the checkpoint, if there is one, was found to be this run's."""
        if trainer.is_global_zero and self.replaced:
            remove(self.run_dir, self.replaced)
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
            if self.verb != "fit":
                self._keep_earlier()
            write_whole(self.path, self.text)

    def _keep_earlier(self) -> None:
        """Move an earlier evaluation out of the way, unless this is the same one once more."""
        if self.path.is_file():
            was, now = (number_settings(yaml.safe_load(text), self.verb) for text in (self.path.read_text(), self.text))
            checkpoint = yaml.safe_load(self.path.read_text()).get("ckpt_path")
            if not changed(was, now) and checkpoint == yaml.safe_load(self.text).get("ckpt_path"):
                return
        moved = set_aside(self.run_dir, self.verb)
        if moved is not None:
            rank_zero_info(f"The results of an earlier {self.verb}, of other weights or settings, are now in {moved}")


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
