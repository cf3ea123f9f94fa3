"""Lightning runs of `fit`, `validate`, `test` and `predict`, through LightningCLI and one run directory."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import lightning
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
    SIGTERMException,
)
from transformers import PretrainedConfig

from vlm_lit.commands.config_files import ConfigFiles
from vlm_lit.commands.known_options import DEFAULT_CLASSES, RUN_HELP, TRAINER_DEFAULTS
from vlm_lit.commands.logger_options import check_installed, in_run_directory
from vlm_lit.commands.option_errors import OptionError, importable_packages
from vlm_lit.commands.parsing import SuggestingParser, chain_of, check_empty, read_config
from vlm_lit.commands.run_place import TIME_VARIABLE, check_free, from_run, last_of, now, placed, resume_command
from vlm_lit.commands.verbs import program
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.callbacks.answers_table import AnswersTable
from vlm_lit.training.callbacks.best_checkpoint import BestCheckpoint, best_checkpoint
from vlm_lit.training.callbacks.confusion import ConfusionMatrix
from vlm_lit.training.callbacks.epoch_schedule import EpochSchedule, PartsTable
from vlm_lit.training.callbacks.kept_config import KeptConfig
from vlm_lit.training.callbacks.monitored import StopAfterValidation, check_monitors, refuse_lightnings_checkpoints
from vlm_lit.training.callbacks.panel import PredictionPanel
from vlm_lit.training.callbacks.progress import progress_bar
from vlm_lit.training.callbacks.reliability import ReliabilityDiagram
from vlm_lit.training.callbacks.results_table import ResultsTable
from vlm_lit.training.callbacks.run_directory import RunDirectory
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, StepCheckpoint, checkpoints
from vlm_lit.training.callbacks.throughput import Throughput
from vlm_lit.training.checkpoint_io import DurableCheckpointIO, checked
from vlm_lit.training.identity import check_data, data_files
from vlm_lit.training.logged_names import Mode
from vlm_lit.training.run_files import written_by_run
from vlm_lit.training.run_logger import RunLogger
from vlm_lit.training.run_settings import check_settings, number_settings
from vlm_lit.training.stop_signals import requeued
from vlm_lit.training.trainer import Trainer

_TENSORS: Final = ("state_dict", "optimizer_states")  # of a checkpoint
_OURS: Final[tuple[type[Callback], ...]] = (
    EpochSchedule, PartsTable, Throughput, PredictionPanel, AnswersTable, ConfusionMatrix, ReliabilityDiagram,
    ResultsTable, StepCheckpoint, RunDirectory,
)  # fmt: skip


def restrict_imports() -> None:
    """Let a config name code of these packages only: a config is data, and data may come from strangers.

    Packages of one's own are allowed by name in the environment variable VLM_LIT_ALLOW_IMPORTS, comma-separated.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=importable_packages())


class VlmLitCLI(LightningCLI):
    """LightningCLI over one run directory, for one verb."""

    writes = True
    """Whether it is run at all, and not only looked at."""

    def __init__(self, verb: str, arguments: Sequence[str]) -> None:
        self.verb, self.time = verb, now()
        self.arguments, self.source = from_run(verb, arguments)
        self.files = ConfigFiles(self.arguments)
        self.begins_at = 0
        self.kept: dict[str, Any] = {}
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=42,
            save_config_callback=None,
            parser_class=SuggestingParser,
            parser_kwargs={"prog": program()},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: object) -> None:
        """Parse what we were given; Lightning would warn that the process's own arguments are there as well."""
        try:
            self.config = parser.parse_args([self.verb, *self.arguments])
        except OptionError as error:
            raise ConfigError(self.files.placed(str(error))) from error
        check_empty(self.files, self.config[self.verb])

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The asked verb alone: building the parsers of the other three takes seconds."""
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run directory, and what model and data have in common."""
        parser.add_argument("--run_dir", type=str, default="runs/run", help=RUN_HELP["run_dir"])
        parser.add_argument("--keep_best", type=str | None, default=None, help=RUN_HELP["keep_best"])
        parser.add_argument("--keep_best_mode", type=Mode | None, default=None, help=RUN_HELP["keep_best_mode"])
        if self.verb == "fit":
            parser.add_argument("--overwrite", action="store_true", help=RUN_HELP["overwrite"])
        else:
            parser.add_argument("--from", type=str, help=RUN_HELP["from"])
        parser.set_defaults({key: {"class_path": path} for key, path in DEFAULT_CLASSES.items()})
        for name in ("model_id", "revision"):
            parser.link_arguments(f"model.init_args.{name}", f"data.init_args.{name}")
        for target in ("model", "data"):
            parser.link_arguments("seed_everything", f"{target}.init_args.seed", compute_fn=_seed)

    @property
    def run_dir(self) -> Path:
        """Where this run writes."""
        return Path(self.config[self.verb]["run_dir"])

    def _parse_ckpt_path(self) -> None:
        """Settle where this run writes and what it starts from: `last`, `best`, or a whole file's path."""
        settings = self.config[self.verb]
        asked, self.named = settings.get("ckpt_path"), str(settings["run_dir"])
        again = asked is None and self.verb == "fit" and self.writes and requeued()
        newest = again or (asked in ("last", "best") and self.source is None)
        run_dir = placed(self.named, self.time, newest=newest)
        settings["run_dir"] = str(run_dir)
        if again and checkpoints(run_dir / FOLDER):
            asked = "last"
        path = None if asked is None else self._begun_from(asked, self.source or run_dir)
        settings["ckpt_path"] = None if path is None else str(path)
        if self.verb == "fit" and self.writes and not settings["trainer"].get("fast_dev_run"):
            self._check_place(run_dir, path)

    def _begun_from(self, asked: str, run: Path) -> Path:
        """The checkpoint to start from, read."""
        path = best_checkpoint(run) if asked == "best" else last_of(run, self.verb) if asked == "last" else Path(asked)
        if not path.is_file():
            raise ConfigError(f"--ckpt_path {asked} is not a file. Write a checkpoint's path, last or best.")
        self.kept = {name: value for name, value in checked(path).items() if name not in _TENSORS}
        self.begins_at = int(self.kept["global_step"])
        return path

    def _check_place(self, run_dir: Path, path: Path | None) -> None:
        overwrite = bool(self.config[self.verb]["overwrite"])
        if overwrite and path is not None:
            raise ConfigError("--overwrite deletes the run that --ckpt_path is to go on from. Give one of the two.")
        if not overwrite:
            check_free(run_dir, path)

    def before_instantiate_classes(self) -> None:
        """Compare the settings of a run that goes on, before anything is loaded for it."""
        if self.verb == "fit" and "settings" in self.kept:
            own = number_settings(yaml.safe_load(self._shown()))
            check_settings(self.kept["settings"], own, Path(self.config[self.verb]["ckpt_path"]))

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
            # A validation that was not finished logs at the step before it.
            step = self.begins_at - bool(self.kept.get("validation_due"))
            options: dict[str, Any] = {"purge_step": step} if self.verb == "fit" else {}
            ours["logger"] = RunLogger(self.run_dir, name="", version="", default_hp_metric=False, **options)
        try:
            trainer = super().instantiate_trainer(**ours, **kwargs)
        except VlmLitError:
            raise
        except ValueError as error:
            raise ConfigError(f"trainer: {error}") from error
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StepCheckpoint):
                timed = self.named != str(self.run_dir)
                callback.command = resume_command(self.arguments, self.run_dir, timed=timed)
        return trainer

    def _first_callbacks(self) -> list[Callback]:
        """Those that decide before any other looks: what a checkpoint says of the best is then of its own step."""
        settings = self.config[self.verb]
        if self.verb != "fit" or settings["keep_best"] is None:
            return [StopAfterValidation()]
        return [StopAfterValidation(), BestCheckpoint(settings["keep_best"], settings["keep_best_mode"])]

    def open_data(self) -> None:
        """Open whatever may be refused: the data and the checkpoint's processor."""
        if isinstance(self.datamodule, ConversationDataModule):
            _check_family(self.datamodule.model_id, self.datamodule.revision)  # the data are checked with its processor
        self.datamodule.setup(self.verb)
        if isinstance(self.datamodule, ConversationDataModule):
            _ = self.datamodule.processor
            if self.verb == "fit" and isinstance(self.model, VisionLanguageModule):
                check_monitors(self.trainer, self.model, self.datamodule)

    def _run_subcommand(self, subcommand: str) -> None:
        """Open what may be refused, then run; Lightning would write its log before it looks at the data."""
        self.open_data()
        if self.verb == "fit" and self.kept and isinstance(self.datamodule, ConversationDataModule):
            check_data(self.kept.get("course", {}), data_files(self.datamodule.sources))
        starts_anew = self.verb == "fit" and not self.kept
        replaced = written_by_run(self.run_dir) if starts_anew else []
        self.trainer.callbacks.append(  # type: ignore[attr-defined]
            KeptConfig(self.run_dir, self.verb, self._shown(), replaced)
        )
        self._say_base()
        if subcommand != "fit":
            # What decides in training when to stop and what to keep has no part in an evaluation.
            warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided")
        given = os.environ.get(TIME_VARIABLE)
        os.environ[TIME_VARIABLE] = self.time  # for the processes of other ranks, which type the same command
        try:
            super()._run_subcommand(subcommand)
        finally:
            if given is None:
                del os.environ[TIME_VARIABLE]

    def _say_base(self) -> None:
        """Word of it if weights that lie ready are not the ones that are evaluated."""
        there = checkpoints(self.run_dir / FOLDER)
        if self.verb != "fit" and not self.kept and there and getattr(self.model, "adapter", None) is None:
            rank_zero_info(
                f"{self.verb} takes the base model as it is. {there[-1]} is not used; --ckpt_path last would use it."
            )

    def _shown(self) -> str:
        """The config as YAML, without what is about this one command."""
        settings = self.config[self.verb].clone()
        for name in ("overwrite", "from"):
            settings.pop(name, None)
        if self.verb == "fit":
            settings["ckpt_path"] = None
        return str(self._parser(self.verb).dump(settings, skip_none=False))


class PreparedRun(VlmLitCLI):
    """The model, data and trainer of a `fit` that is not run. It writes nothing."""

    writes = False

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
    """Run a Lightning verb; the exit status, which is that of a shell's where a signal ended it."""
    try:
        with refusing():
            VlmLitCLI(verb, arguments)
    except SIGTERMException as stop:
        return stop.code if isinstance(stop.code, int) else 128 + signal.SIGTERM
    except SystemExit as stop:
        # What Lightning makes of a KeyboardInterrupt.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return 128 + signal.SIGINT
        raise
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
