"""Options of `fit`, `validate`, `test` and `predict`, known from the sources before anything is imported.

config, run_dir, ckpt_path, ...   what a run is
model.*, data.*, trainer.*        what the classes are made from, two of which a config may choose
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vlm_lit.commands.signatures import Named, Parameter, find_class, method_parameters, own_classes, parameters

DEFAULT_CLASSES: Final = {
    "model": "vlm_lit.SupervisedModule",
    "data": "vlm_lit.ConversationDataModule",
}
"""What a config that names no class gets, as jsonargparse names it: by its shortest path."""

TRAINER_CLASS: Final = "vlm_lit.training.trainer.Trainer"
TRAINER_DEFAULTS: Final[dict[str, object]] = {
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}
BASE_CLASSES: Final = {"model": "LightningModule", "data": "LightningDataModule"}
PROVIDED: Final = frozenset({"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"})
"""What Lightning's own `fit`, `test` ... take that no option says."""


LINKS: Final = {
    "data.model_id": "model.model_id",
    "data.revision": "model.revision",
    "model.seed": "seed_everything",
    "data.seed": "seed_everything",
}
"""Settings that follow from another one, each with the one to set."""


@dataclass(frozen=True)
class RunOption:
    """An option of a run itself. `default` is as it is shown; empty where there is none to show."""

    name: str
    help: str
    default: str = ""
    verbs: Sequence[str] = ("fit", "validate", "test", "predict")


_EVALUATIONS: Final = ("validate", "test", "predict")
RUN_OPTIONS: Final = (
    RunOption("config", "YAML file of settings; of several the later wins, and an option here over all"),
    RunOption("run_dir", "folder for everything this run writes; {time} in it makes a new one each time", "runs/run"),
    RunOption("overwrite", "delete the run that run_dir holds; nothing else in it", "false", ("fit",)),
    RunOption("from", "run whose config and last checkpoint are taken; results go to a new folder", "", _EVALUATIONS),
    RunOption("ckpt_path", "checkpoint to start from: a file of a run's checkpoints/, last or best"),
    RunOption("keep_best", "keep the best checkpoint by this figure of the validations, for example val/loss"),
    RunOption("keep_best_mode", "whether the least (min) or the most (max) is best; null takes the metric's own"),
    RunOption("seed_everything", "seed of the data order, of LoRA's matrices and of dropout", "42"),
    RunOption("print_config", "show all settings, each from where it was set last, and stop"),
)
RUN_HELP: Final = {option.name: option.help for option in RUN_OPTIONS}
_OF_THE_PARSER: Final = ("help", "config", "c", "h", "print_config", "seed_everything")


def run_options(verb: str) -> list[RunOption]:
    """The options of a run that `verb` takes, in the order to show them."""
    return [option for option in RUN_OPTIONS if verb in option.verbs]


def top_level(verb: str) -> set[str]:
    """Every name that may stand before the first dot."""
    trainer = find_class("lightning.Trainer")
    of_lightning = method_parameters(trainer, verb) if trainer is not None else []
    names = {parameter.name for parameter in of_lightning} - PROVIDED
    return {*names, *_OF_THE_PARSER, *(option.name for option in run_options(verb)), "trainer", *DEFAULT_CLASSES}


def section_class(section: str, class_path: str | None = None) -> Named | None:
    """The class that `model`, `data` or `trainer` is made from; None where its source is not found.

    `class_path` is what a config names, in full or by its last word where it is ours.
    """
    if section == "trainer":
        return find_class(TRAINER_CLASS)
    path = class_path or DEFAULT_CLASSES[section]
    if "." in path:
        return find_class(path)
    ours = own_classes("vlm_lit", BASE_CLASSES[section])
    return next((found for name, found in ours.items() if name.rpartition(".")[2] == path), None)


def dotted_names(found: Named) -> dict[str, Parameter]:
    """What a class is made from, by dotted name: its parameters, and what their settings classes have inside."""
    return dict(_dotted(found, ""))


def _dotted(found: Named, prefix: str) -> Iterator[tuple[str, Parameter]]:
    for parameter in parameters(found):
        yield f"{prefix}{parameter.name}", parameter
        if parameter.settings is not None:
            yield from _dotted(parameter.settings, f"{prefix}{parameter.name}.")
