"""How do `fit`, `validate`, `test` and `predict` become a Lightning run? Through LightningCLI and one run directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lightning
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from vlm_lit.commands.parsing import SuggestingParser, read_config
from vlm_lit.schema import ConfigError
from vlm_lit.training.callbacks.panel import PredictionPanel
from vlm_lit.training.callbacks.pass_schedule import PartsTable, PassSchedule
from vlm_lit.training.callbacks.run_directory import RunDirectory, write_whole
from vlm_lit.training.callbacks.step_checkpoint import StepCheckpoint, newest_checkpoint
from vlm_lit.training.callbacks.throughput import Throughput
from vlm_lit.training.checkpoint_io import DurableCheckpointIO
from vlm_lit.training.trainer import Trainer

_IMPORTABLE: Final = ["vlm_lit", "torch.optim", "bitsandbytes.optim", "lightning.pytorch"]
_ALLOW_VARIABLE: Final = "VLM_LIT_ALLOW_IMPORTS"
_OURS: Final[tuple[type[Callback], ...]] = (
    PassSchedule, PartsTable, Throughput, PredictionPanel, StepCheckpoint, RunDirectory,
)  # fmt: skip


def restrict_imports() -> None:
    """Let a config name code of these packages only: a config is data, and data may come from strangers.

    Packages of one's own are allowed by name in the environment variable VLM_LIT_ALLOW_IMPORTS, comma-separated.
    """
    own = [name for name in os.environ.get(_ALLOW_VARIABLE, "").split(",") if name]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*_IMPORTABLE, *own])


class VlmLitCLI(LightningCLI):
    """LightningCLI over one run directory, for one verb."""

    def __init__(self, verb: str, arguments: Sequence[str]) -> None:
        self.verb, self.arguments = verb, arguments
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            trainer_defaults={
                "enable_checkpointing": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 10,
                "enable_model_summary": False,
            },
            seed_everything_default=42,
            save_config_callback=None,
            parser_class=SuggestingParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: object) -> None:
        """Parse what we were given; Lightning would warn that the process's own arguments are there as well."""
        self.config = parser.parse_args([self.verb, *self.arguments])

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The asked verb alone: building the parsers of the other three takes seconds."""
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run directory, and what model and data have in common."""
        parser.add_argument(
            "--run_dir", type=str, default="runs/run", help="Folder for everything this run writes; relative to here."
        )
        for name in ("model_id", "revision"):
            parser.link_arguments(f"model.init_args.{name}", f"data.init_args.{name}")
        for target in ("model", "data"):
            parser.link_arguments("seed_everything", f"{target}.init_args.seed", compute_fn=_seed)

    @property
    def run_dir(self) -> Path:
        """Where this run writes."""
        return Path(self.config[self.verb]["run_dir"])

    def _parse_ckpt_path(self) -> None:
        """Only `last` and a file's path are meant by --ckpt_path; neither changes what the config says."""
        settings = self.config[self.config["subcommand"]]
        asked = settings.get("ckpt_path")
        if asked is None:
            return
        path = newest_checkpoint(Path(settings["run_dir"])) if asked == "last" else Path(asked)
        if not path.is_file():
            raise ConfigError(f"--ckpt_path {asked} is not a file. Write a checkpoint's path, or last.")
        settings["ckpt_path"] = str(path)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that writes into the run directory, with our callbacks unless the config brings its own."""
        config = self._get(self.config_init, "trainer", default={})
        given = config.get("callbacks") or []
        present = {type(callback) for callback in given}
        ours: dict[str, Any] = {
            "callbacks": [*given, *(made() for made in _OURS if made not in present)],
            "default_root_dir": str(self.run_dir),
            "plugins": [*(config.get("plugins") or []), DurableCheckpointIO()],
        }
        if config.get("logger") in (None, True):
            ours["logger"] = TensorBoardLogger(save_dir=self.run_dir, name="", version="")
        return super().instantiate_trainer(**ours, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        self._keep_config()
        super()._run_subcommand(subcommand)

    def _keep_config(self) -> None:
        """Write the full config beside the results, and log it as hyperparameters."""
        if not self.trainer.is_global_zero:
            return
        name = "config.yaml" if self.verb == "fit" else f"config.{self.verb}.yaml"
        shown = self._parser(self.verb).dump(self.config[self.verb], skip_none=False)
        write_whole(self.run_dir / name, shown)
        if self.verb == "fit":
            for logger in self.trainer.loggers:
                logger.log_hyperparams(_flat(yaml.safe_load(shown)))


def _seed(value: bool | int) -> int:
    return int(os.environ.get("PL_GLOBAL_SEED", 42)) if isinstance(value, bool) else value


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted names; classes by their path alone."""
    if not isinstance(settings, dict):
        return {prefix: settings if isinstance(settings, (int, float, str, bool)) else str(settings)}
    inner = settings.get("init_args") if "class_path" in settings else None
    pairs = {**settings, **inner} if isinstance(inner, dict) else settings
    flat: dict[str, object] = {}
    for key, value in pairs.items():
        if key != "init_args":
            flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run a Lightning verb; the exit status."""
    # Workers are forked: a tokenizer's own threads would warn about it and switch themselves off anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    restrict_imports()
    read_config()
    VlmLitCLI(verb, arguments)
    return 0
