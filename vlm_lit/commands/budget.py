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
    from vlm_lit.preflight.budget.report import Budget

_EPILOG = """Takes the config files and overrides of fit: fit --help lists them. Needs the
checkpoint's config.json alone: no weights, no GPU, and no data where --length is given. Full fine-tuning, LoRA on a
16-bit base, LoRA on an 8-bit base and QLoRA are put side by side."""


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument(
        "--length", type=whole_number(2), help="tokens of a row; default: the data's longest row, or data.max_length"
    )
    parser.add_argument(
        "--supervised", type=whole_number(1), help="supervised tokens of a row; default: the data's, or all but images"
    )
    parser.add_argument("--images", type=whole_number(0), default=1, help="pictures in a row")
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


def _budget(options: argparse.Namespace, of_fit: Sequence[str]) -> Budget:
    from vlm_lit.commands.unopened_run import unopened
    from vlm_lit.data.token_rows import TokenRows
    from vlm_lit.preflight.budget.report import budget
    from vlm_lit.training.answered import AnsweredModule

    run = unopened(of_fit)
    if not isinstance(run.model, AnsweredModule) or not isinstance(run.datamodule, TokenRows):
        raise ConfigError(
            "budget knows an AnsweredModule on a ConversationDataModule; this config asks for "
            f"{type(run.model).__name__} on {type(run.datamodule).__name__}."
        )
    return budget(
        run.model,
        run.datamodule,
        run.trainer,
        length=options.length,
        supervised=options.supervised,
        images=options.images,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _text(budget: Budget, form: str) -> str:
    if form == "json":
        from vlm_lit.commands.budget_json import as_json

        return as_json(budget)
    from vlm_lit.commands.budget_text import as_text

    return as_text(budget)


def _write(path: Path, text: str) -> None:
    write_output(path, text)
    print(f"Written to {path}", file=sys.stderr)
