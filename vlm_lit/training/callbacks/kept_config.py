"""The settings of a run: its whole config beside its results, and what was chosen in TensorBoard's HPARAMS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.curve_tags import scalar_tag
from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.files.whole import write_whole
from vlm_lit.training.callbacks.chosen_settings import COLUMNS, chosen_settings
from vlm_lit.training.callbacks.hparams_file import write_hparams
from vlm_lit.training.protocols import Judged
from vlm_lit.training.run_files import remove, set_aside
from vlm_lit.training.run_logger import RunLogger
from vlm_lit.training.run_settings import changed, number_settings
from vlm_lit.training.skipped_records import write_skipped


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
        config = yaml.safe_load(self.text)
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(flattened(config))
            elif trainer.is_global_zero:
                self._show(logger, config, _leading(pl_module), trainer.global_step)

    def _show(self, logger: TensorBoardLogger, config: dict[str, Any], metrics: Sequence[str], step: int) -> None:
        """Put the config into a TensorBoard log: all of it as text and in hparams.yaml, the choices as a table."""
        if isinstance(logger, RunLogger) and logger.purge_step == 0:
            logger.void_earlier()  # a new run's files are the only ones from here on, but a reader may hold others
        logger.experiment.add_text("config", f"```yaml\n{self.text}\n```", step)
        folder = Path(logger.log_dir)
        # The logger writes this file once and leaves an earlier run's as it is.
        (folder / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)
        logger.hparams.update(flattened(config))
        tags = [scalar_tag(name) if isinstance(logger, RunLogger) else name for name in metrics]
        write_hparams(folder, COLUMNS, chosen_settings(config), tags)

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
            if isinstance(data := getattr(trainer, "datamodule", None), StepDataModule):
                write_skipped(self.run_dir, data.datasets)

    def _keep_earlier(self) -> None:
        """Move an earlier evaluation out of the way, unless this is the same one once more."""
        if self.path.is_file() and self._is_earlier():
            return
        moved = set_aside(self.run_dir, self.verb)
        if moved is not None:
            rank_zero_info(f"The results of an earlier {self.verb}, of other weights or settings, are now in {moved}")

    def _is_earlier(self) -> bool:
        """Whether the config beside the results is this evaluation's; no for one that is damaged."""
        try:
            earlier = read_strict(self.path, "config")
        except ConfigError as error:
            rank_zero_info(f"Warning: {error}")
            return False
        own = yaml.safe_load(self.text)
        if not isinstance(earlier, dict) or earlier.get("ckpt_path") != own.get("ckpt_path"):
            return False
        return not changed(number_settings(earlier, self.verb), number_settings(own, self.verb))


def _leading(module: LightningModule) -> list[str]:
    """The figures by which runs are told apart: the losses, and what their answers scored by each metric.

    Each is there whether this run will have it or not: TensorBoard shows the columns of one run for all.
    """
    if not isinstance(module, Judged):
        return ["train/loss", "val/loss"]
    names = [rule.name for rule in module.judged_by(one_reference=True)]
    # Which of the default ones leads, the questions decide.
    tested = names[:2] if getattr(module, "metrics", None) is None else names[:1]
    return ["train/loss", "val/loss", *(f"val/{name}" for name in names), *(f"test/{name}" for name in tested)]


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
