"""`budget`: what a `fit` with the same config would need of a GPU and a disk, before anyone rents them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.commands.output_files import write_output
from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from vlm_lit.preflight.budget.class_budget import ClassBudget
    from vlm_lit.preflight.budget.report import Budget

_EPILOG = """Takes the config files and overrides of fit: fit --help lists them. Needs the
checkpoint's config.json alone: no weights, no GPU, and no data where --length is given (for a classifier --answers).
Full fine-tuning, LoRA on a 16-bit base, LoRA on an 8-bit base and QLoRA are put side by side; for a classifier all of
it, its last layers, LoRA, QLoRA and its head alone."""


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument(
        "--length",
        type=whole_number(2),
        help="tokens of a row (default: the data's longest, or data.max_length), or of a question (data.most_words)",
    )
    parser.add_argument(
        "--supervised", type=whole_number(1), help="supervised tokens of a row; default: the data's, or all but images"
    )
    parser.add_argument("--images", type=whole_number(0), help="pictures in a row; default: 1")
    parser.add_argument(
        "--answers",
        type=whole_number(2),
        help="answers that a classifier chooses from; default: the vocabulary's, or the checkpoint's",
    )
    parser.add_argument(
        "--gpus", type=whole_number(1), help="GPUs of the run; default: trainer.devices x num_nodes, 1 for auto"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="what to write")
    parser.add_argument("--output", type=Path, help="file to write instead of standard output")
    return parser


def run(verb: str, arguments: Sequence[str]) -> int:
    """Estimate and show; the exit status.

    Raises:
        VlmLitError: a config that `fit` would refuse, or data that are here and cannot be used.
    """
    options, of_fit = _parser(verb).parse_known_args(arguments)
    check("fit", of_fit)
    # The libraries print where they like; standard output is for the result alone.
    with redirect_stdout(sys.stderr):
        budget = _budget(options, of_fit)
    text = _text(budget, options.format)
    if options.output is None:
        print(text, end="")
    else:
        _write(options.output, text)
    return 0


def _budget(options: argparse.Namespace, of_fit: Sequence[str]) -> Budget | ClassBudget:
    from vlm_lit.commands.unopened_run import unopened
    from vlm_lit.data.classifier_datamodule import ClassifierDataModule
    from vlm_lit.data.token_rows import TokenRows
    from vlm_lit.preflight.budget.class_budget import class_budget
    from vlm_lit.preflight.budget.report import budget
    from vlm_lit.training.answered import AnsweredModule
    from vlm_lit.training.classifier import ClassifierModule

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    run = unopened(of_fit)
    module, data, trainer = run.model, run.datamodule, run.trainer
    plan = run.rank_plan(options.gpus)
    if isinstance(module, ClassifierModule) and isinstance(data, ClassifierDataModule):
        _refuse(options, ("supervised", "images"), "a classifier has no supervised tokens, and one image a question")
        return class_budget(module, data, trainer, answers=options.answers, words=options.length, say=say, plan=plan)
    if not isinstance(module, AnsweredModule) or not isinstance(data, TokenRows):
        raise ConfigError(
            "budget knows an AnsweredModule on a ConversationDataModule, and a ClassifierModule on a "
            f"ClassifierDataModule; this config asks for {type(module).__name__} on {type(data).__name__}."
        )
    _refuse(options, ("answers",), "this model generates its answers")
    return budget(
        module,
        data,
        trainer,
        length=options.length,
        supervised=options.supervised,
        images=1 if options.images is None else options.images,
        say=say,
        plan=plan,
    )


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        ConfigError: one of them is given.
    """
    given = [f"--{name}" for name in names if getattr(options, name) is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)} would do nothing: {reason}. Leave it out.")


def _text(budget: Budget | ClassBudget, form: str) -> str:
    from vlm_lit.commands.budget_classes import class_json, class_text
    from vlm_lit.commands.budget_json import as_json
    from vlm_lit.commands.budget_text import as_text
    from vlm_lit.preflight.budget.class_budget import ClassBudget

    if isinstance(budget, ClassBudget):
        return class_json(budget) if form == "json" else class_text(budget)
    return as_json(budget) if form == "json" else as_text(budget)


def _write(path: Path, text: str) -> None:
    write_output(path, text)
    print(f"Written to {path}", file=sys.stderr)
