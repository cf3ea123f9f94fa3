"""How do `fit`, `validate`, `test` and `predict` become a Lightning run? Through LightningCLI and one run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import lightning
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from transformers import PretrainedConfig

from vlm_lit.commands.logger_options import check_installed, in_run_directory
from vlm_lit.commands.parsing import ConfigFiles, OptionError, SuggestingParser, chain_of, read_config
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.metrics.own_rules import allowed_packages
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.schema import ConfigError, VlmLitError
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.callbacks.answers_table import AnswersTable
from vlm_lit.training.callbacks.best_checkpoint import BestCheckpoint, best_checkpoint
from vlm_lit.training.callbacks.confusion import ConfusionMatrix
from vlm_lit.training.callbacks.kept_config import KeptConfig
from vlm_lit.training.callbacks.monitored import StopAfterValidation, check_monitors, refuse_lightnings_checkpoints
from vlm_lit.training.callbacks.panel import PredictionPanel
from vlm_lit.training.callbacks.pass_schedule import PartsTable, PassSchedule
from vlm_lit.training.callbacks.progress import progress_bar
from vlm_lit.training.callbacks.reliability import ReliabilityDiagram
from vlm_lit.training.callbacks.run_directory import RunDirectory
from vlm_lit.training.callbacks.step_checkpoint import StepCheckpoint, newest_checkpoint
from vlm_lit.training.callbacks.throughput import Throughput
from vlm_lit.training.checkpoint_io import DurableCheckpointIO, checked_step
from vlm_lit.training.logged_names import Mode
from vlm_lit.training.run_logger import RunLogger
from vlm_lit.training.trainer import Trainer

_IMPORTABLE: Final = ["vlm_lit", "torch.optim", "bitsandbytes.optim", "lightning.pytorch"]
_OURS: Final[tuple[type[Callback], ...]] = (
    PassSchedule, PartsTable, Throughput, PredictionPanel, AnswersTable, ConfusionMatrix, ReliabilityDiagram,
    StepCheckpoint, RunDirectory,
)  # fmt: skip


def restrict_imports() -> None:
    """Let a config name code of these packages only: a config is data, and data may come from strangers.

    Packages of one's own are allowed by name in the environment variable VLM_LIT_ALLOW_IMPORTS, comma-separated.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*_IMPORTABLE, *allowed_packages()])


class VlmLitCLI(LightningCLI):
    """LightningCLI over one run directory, for one verb."""

    def __init__(self, verb: str, arguments: Sequence[str]) -> None:
        self.verb, self.arguments = verb, arguments
        self.files = ConfigFiles(arguments)
        self.first_step = 0
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
            parser_kwargs={"prog": "python -m vlm_lit"},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: object) -> None:
        """Parse what we were given; Lightning would warn that the process's own arguments are there as well."""
        try:
            self.config = parser.parse_args([self.verb, *self.arguments])
        except OptionError as error:
            raise ConfigError(self.files.placed(str(error))) from error
        self.files.check_empty(self.config[self.verb])

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The asked verb alone: building the parsers of the other three takes seconds."""
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run directory, and what model and data have in common."""
        parser.add_argument(
            "--run_dir", type=str, default="runs/run", help="Folder for everything this run writes; relative to here."
        )
        parser.add_argument(
            "--keep_best",
            type=str | None,
            default=None,
            help="Keep the best checkpoint by this figure of the validations, for example val/loss; null keeps none.",
        )
        parser.add_argument(
            "--keep_best_mode",
            type=Mode | None,
            default=None,
            help="Whether the least (min) or the most (max) of it is best; null takes the metric's own direction.",
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
        """Only `last` and a whole file's path are meant by --ckpt_path; neither changes what the config says."""
        settings = self.config[self.config["subcommand"]]
        asked = settings.get("ckpt_path")
        if asked is None:
            return
        named = {"last": newest_checkpoint, "best": best_checkpoint}
        path = named[asked](Path(settings["run_dir"])) if asked in named else Path(asked)
        if not path.is_file():
            raise ConfigError(f"--ckpt_path {asked} is not a file. Write a checkpoint's path, last or best.")
        self.first_step = checked_step(path)
        settings["ckpt_path"] = str(path)

    def instantiate_classes(self) -> None:
        """Make model, data and trainer; our own error about a setting comes out from under what is made of it."""
        asked = self.config
        self.config = asked.clone()
        self.config[self.verb]["trainer"] = in_run_directory(asked[self.verb]["trainer"], self.run_dir)
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            ours = next((inner for inner in chain_of(error) if isinstance(inner, VlmLitError)), None)
            if ours is None:
                check_installed(error)
                raise
            raise ConfigError(self.files.placed(str(ours))) from error
        finally:
            self.config = asked

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that writes into the run directory, with our callbacks unless the config brings its own."""
        config = self._get(self.config_init, "trainer", default={})
        if config.get("default_root_dir") is not None:
            raise ConfigError("trainer.default_root_dir has no effect here; set run_dir, where a run writes.")
        given = list(config.get("callbacks") or [])
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in given):
            given.append(progress_bar())
        present = {type(callback) for callback in given}
        refuse_lightnings_checkpoints(given, enabled=bool(config.get("enable_checkpointing")))
        ours: dict[str, Any] = {
            "callbacks": [*self._first_callbacks(), *given, *(made() for made in _OURS if made not in present)],
            "default_root_dir": str(self.run_dir),
            "plugins": [*(config.get("plugins") or []), DurableCheckpointIO()],
        }
        if config.get("logger") in (None, True):
            # What an earlier process logged from this step on was not kept, and is done again.
            options: dict[str, Any] = {"purge_step": self.first_step} if self.verb == "fit" else {}
            ours["logger"] = RunLogger(self.run_dir, name="", version="", default_hp_metric=False, **options)
        try:
            return super().instantiate_trainer(**ours, **kwargs)
        except VlmLitError:
            raise
        except ValueError as error:
            raise ConfigError(f"trainer: {error}") from error

    def _first_callbacks(self) -> list[Callback]:
        """Those that decide before any other looks: what a checkpoint says of the best is then of its own step."""
        settings = self.config[self.verb]
        if self.verb != "fit" or settings["keep_best"] is None:
            return [StopAfterValidation()]
        return [StopAfterValidation(), BestCheckpoint(settings["keep_best"], settings["keep_best_mode"])]

    def open_data(self) -> None:
        """Open whatever may be refused: the data and the checkpoint's processor."""
        self.datamodule.setup(self.verb)
        if isinstance(self.datamodule, ConversationDataModule):
            _check_family(self.datamodule.model_id, self.datamodule.revision)
            _ = self.datamodule.processor
            if self.verb == "fit" and isinstance(self.model, VisionLanguageModule):
                check_monitors(self.trainer, self.model, self.datamodule)

    def _run_subcommand(self, subcommand: str) -> None:
        """Open what may be refused, then run; Lightning would write its log before it looks at the data."""
        self.open_data()
        self.trainer.callbacks.append(  # type: ignore[attr-defined]
            KeptConfig(self.run_dir, self.verb, self._shown())
        )
        if subcommand != "fit":
            # What decides in training when to stop and what to keep has no part in an evaluation.
            warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided")
        super()._run_subcommand(subcommand)

    def _shown(self) -> str:
        return str(self._parser(self.verb).dump(self.config[self.verb], skip_none=False))


class PreparedRun(VlmLitCLI):
    """The model, data and trainer of a `fit` that is not run. It writes nothing."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__("fit", arguments)

    def _run_subcommand(self, subcommand: str) -> None:
        self.open_data()


def _check_family(model_id: str, revision: str | None) -> None:
    """Refuse an unknown architecture, in a folder before transformers does: only we can say what to add where."""
    if (Path(model_id) / "config.json").is_file():
        settings: dict[str, Any] = {}
        with suppress(OSError):  # a broken one is `load_config`'s to name
            settings, _ = PretrainedConfig.get_config_dict(model_id)
        if "model_type" in settings:
            family_of(settings["model_type"])
    family_of(load_config(model_id, revision).model_type)


def _seed(value: bool | int) -> int:
    return int(os.environ.get("PL_GLOBAL_SEED", 42)) if isinstance(value, bool) else value


def prepared(arguments: Sequence[str]) -> PreparedRun:
    """The run that `fit` with these arguments would be, without running it."""
    with refusing():
        return PreparedRun(arguments)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run a Lightning verb; the exit status."""
    with refusing():
        VlmLitCLI(verb, arguments)
    return 0


@contextmanager
def refusing() -> Iterator[None]:
    """What holds for every run: which code a config may name, how YAML is read, what Lightning refuses."""
    # Workers are forked: a tokenizer's own threads would warn about it and switch themselves off anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # It cannot know: the data module starts its loader at the checkpoint's step.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
    restrict_imports()
    read_config()
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
