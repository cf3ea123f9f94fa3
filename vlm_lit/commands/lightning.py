"""Lightning runs of `fit`, `validate`, `test` and `predict`, through LightningCLI and one run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import lightning
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.commands.config_files import ConfigFiles, files_first
from vlm_lit.commands.default_class import default_class
from vlm_lit.commands.known_options import DEFAULT_CLASSES, LINKS, RUN_HELP, TRAINER_DEFAULTS
from vlm_lit.commands.logger_options import check_installed, in_run_directory
from vlm_lit.commands.nulls import with_nulls
from vlm_lit.commands.option_errors import OptionError
from vlm_lit.commands.parsing import (
    SuggestingParser,
    chain_of,
    check_empty,
    check_links,
    check_numbers,
    check_rate_written,
    in_full,
)
from vlm_lit.commands.process_rules import refusing
from vlm_lit.commands.run_place import TIME_VARIABLE, check_free, from_run, last_of, now, placed, resume_command
from vlm_lit.commands.trainer_arguments import trainer_arguments
from vlm_lit.commands.verbs import program
from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.run_length import length_of
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.models.loading import check_family
from vlm_lit.training.callbacks.best_checkpoint import BestCheckpoint, best_checkpoint
from vlm_lit.training.callbacks.kept_config import KeptConfig
from vlm_lit.training.callbacks.monitored import check_monitors
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, StepCheckpoint, checkpoints
from vlm_lit.training.checkpoint_io import sound
from vlm_lit.training.identity import check_data, data_files
from vlm_lit.training.logged_names import Mode
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.protocols import Validated
from vlm_lit.training.run_files import written_by_run
from vlm_lit.training.run_lock import refuse_second_writer, sole_writer
from vlm_lit.training.run_settings import check_settings, number_settings
from vlm_lit.training.slurm_job import requeued
from vlm_lit.training.trainer import Trainer

_TENSORS: Final = ("state_dict", "optimizer_states")  # of a checkpoint


class VlmLitCLI(LightningCLI):
    """LightningCLI over one run directory, for one verb."""

    writes = True
    """Whether it is run at all, and not only looked at."""

    def __init__(self, verb: str, arguments: Sequence[str]) -> None:
        self.verb, self.time = verb, now()
        self.arguments, self.source = from_run(verb, files_first(arguments))
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
            self.config = parser.parse_args([self.verb, *with_nulls(self.arguments)])
        except OptionError as error:
            raise ConfigError(self.files.placed(str(error))) from error
        check_empty(self.files, self.config[self.verb])
        try:
            check_numbers(self.config[self.verb])
            check_links(self.files, self.config[self.verb])
            check_rate_written(self.files, self.config[self.verb])
        except ConfigError as error:
            raise ConfigError(self.files.placed(str(error))) from None

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
        parser.set_defaults({key: {"class_path": default_class(key, self.files)} for key in DEFAULT_CLASSES})
        for target, source in LINKS.items():
            compute = _seed if source == "seed_everything" else None
            parser.link_arguments(in_full(source), in_full(target), compute_fn=compute)

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
        if self._keeps_files:
            refuse_second_writer(run_dir)
            if self.verb == "fit":
                self._check_place(run_dir, path)

    @property
    def _keeps_files(self) -> bool:
        return self.writes and not self.config[self.verb]["trainer"].get("fast_dev_run")

    def _begun_from(self, asked: str, run: Path) -> Path:
        """The checkpoint to start from, read."""
        path = best_checkpoint(run) if asked == "best" else last_of(run, self.verb) if asked == "last" else Path(asked)
        if not path.is_file():
            raise ConfigError(f"--ckpt_path {asked} is not a file. Write a checkpoint's path, last or best.")
        found = sound(path, resumes=self.verb == "fit")
        self.kept = {name: value for name, value in found.items() if name not in _TENSORS}
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
                # The parser words around it what each of the kinds that the value could be says of it.
                wrong = next((inner for inner in chain_of(error) if isinstance(inner, MisconfigurationException)), None)
                if wrong is None:
                    raise
                raise ConfigError(f"{wrong}") from error
            raise ConfigError(self.files.placed(str(ours))) from error
        finally:
            self.config = asked

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that writes into the run directory, with our callbacks unless the config brings its own."""
        config = self._get(self.config_init, "trainer", default={})
        settings = self.config[self.verb]
        best = None
        if self.verb == "fit" and settings["keep_best"] is not None:
            best = BestCheckpoint(settings["keep_best"], settings["keep_best_mode"])
        elif self.verb == "fit" and settings["keep_best_mode"] is not None:
            raise ConfigError(
                f"keep_best_mode is {settings['keep_best_mode']}, and no best checkpoint is kept. Set keep_best, for "
                "example --keep_best val/loss, or leave keep_best_mode out."
            )
        # What an earlier process logged from this step on was not kept, and is done again.
        # A validation that was not finished logs at the step before it.
        step = self.begins_at - bool(self.kept.get("validation_due"))
        own = isinstance(self.model, VisionLanguageModule)
        purge = step if self.verb == "fit" else None
        ours = trainer_arguments(config, self.run_dir, best=best, purge_step=purge, ours=own)
        try:
            trainer = super().instantiate_trainer(**ours, **kwargs)
        except VlmLitError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(f"trainer: {error}") from error
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StepCheckpoint):
                timed = self.named != str(self.run_dir)
                callback.command = resume_command(self.arguments, self.run_dir, timed=timed)
        return trainer

    def open_data(self) -> None:
        """Open whatever may be refused: the data and the checkpoint's processor."""
        if isinstance(self.datamodule, RecordDataModule):
            if getattr(self.model, "task", self.datamodule.task) != self.datamodule.task:
                raise ConfigError(
                    f"{type(self.model).__name__} is not for the batches of {type(self.datamodule).__name__}. Set "
                    f"data.class_path to vlm_lit.{self.model.read_from}."
                )
            if self.verb == "fit" and (length := length_of(self.trainer)) is not None:
                length.check()
            # The data are checked with its processor.
            check_family(self.datamodule.model_id, self.datamodule.revision, getattr(self.model, "task", "generate"))
        self.datamodule.setup(self.verb)
        if isinstance(self.datamodule, RecordDataModule):
            _ = self.datamodule.processor
        if self.verb == "fit" and isinstance(self.datamodule, Validated):
            check_monitors(self.trainer, self.model, self.datamodule)

    def _run_subcommand(self, subcommand: str) -> None:
        """Open what may be refused, then run; Lightning would write its log before it looks at the data."""
        self.open_data()
        with sole_writer(self.run_dir, self.verb) if self._keeps_files else nullcontext():
            self._run_alone(subcommand)

    def _run_alone(self, subcommand: str) -> None:
        if self.verb == "fit" and self._keeps_files:
            path = self.config["fit"]["ckpt_path"]  # it was free when the command began; the data took their time
            self._check_place(self.run_dir, None if path is None else Path(path))
        if self.verb == "fit" and self.kept and isinstance(self.datamodule, RecordDataModule):
            check_data(self.kept.get("course", {}), data_files(self.datamodule.sources))
        if self.kept and isinstance(self.model, VisionLanguageModule):
            self.model.start_is_kept = True
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


def _seed(value: bool | int) -> int:
    return int(os.environ.get("PL_GLOBAL_SEED", 42)) if isinstance(value, bool) else value


def prepared(arguments: Sequence[str]) -> PreparedRun:
    """The run that `fit` with these arguments would be, without running it."""
    with refusing():
        return PreparedRun(arguments)
