"""`inspect`: show what a `fit` with the same config would train, before anyone pays for it. Nothing is trained."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.commands.collated import collator_of
from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.commands.output_files import write_output
from vlm_lit.errors import nearest

if TYPE_CHECKING:
    from vlm_lit.commands.lightning import PreparedRun
    from vlm_lit.preflight.inspection.class_report import ClassInspection
    from vlm_lit.preflight.inspection.report import Inspection

_OWN: Final = ("--format", "--output", "--conversations", "--lengths")
_EPILOG: Final = """Takes the config files and overrides of fit: fit --help lists them. Exits with 0
if all is well; with 1 if a parameter that is to be trained does not move or a frozen one does, an end of turn is not
supervised, image placeholders and image features differ, or a key that looks like input is not used; and for a
classifier if a question has no target or loses words; with 2 if fit would refuse the config or a record."""


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument("--format", choices=("text", "json", "html"), default="text", help="what to write")
    parser.add_argument(
        "--output", type=Path, help="file to write instead of standard output; a page goes to run_dir/inspect.html"
    )
    parser.add_argument(
        "--conversations", type=whole_number(1), default=4, help="how many (or questions, pairs) to show and step on"
    )
    parser.add_argument("--lengths", type=whole_number(1), default=256, help="how many to measure")
    return parser


def run(verb: str, arguments: Sequence[str]) -> int:
    """Inspect and show; the exit status.

    Raises:
        VlmLitError: whatever `fit` would refuse. A record that is too long is shown with the rest first.
    """
    parser = _parser(verb)
    options, of_fit = parser.parse_known_args(arguments)
    for word in of_fit:  # fit would name its own options only
        near = nearest(word.partition("=")[0], _OWN, cutoff=0.75) if word.startswith("--") else None
        if near:
            parser.error(f"{word} is not an option. Did you mean {near}?")
    check("fit", of_fit)
    # The libraries print where they like; standard output is for the report alone.
    with redirect_stdout(sys.stderr):
        run, inspection = _inspection(options, of_fit)
    _show(options, run, inspection)
    for problem in inspection.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if inspection.stopping is not None:
        raise inspection.stopping
    return 1 if inspection.problems else 0


def _inspection(options: argparse.Namespace, of_fit: Sequence[str]) -> tuple[PreparedRun, Inspection | ClassInspection]:
    from vlm_lit.commands.lightning import prepared
    from vlm_lit.data.preference_datamodule import PreferenceDataModule
    from vlm_lit.data.rows.class_collate import ClassCollator
    from vlm_lit.preflight.inspection.class_look import inspect_classifier
    from vlm_lit.preflight.inspection.look import inspect_run
    from vlm_lit.preflight.inspection.pair_look import inspect_pairs

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    run, shown, measured = prepared(of_fit), options.conversations, options.lengths
    module, data, trainer = run.model, run.datamodule, run.trainer
    if isinstance(collator_of(run, "inspect"), ClassCollator):
        return run, inspect_classifier(module, data, trainer, questions=shown, lengths=measured, say=say)
    if isinstance(data, PreferenceDataModule):
        return run, inspect_pairs(module, data, trainer, pairs=shown, lengths=measured, say=say)
    return run, inspect_run(module, data, trainer, conversations=shown, lengths=measured, say=say)


def _show(options: argparse.Namespace, run: PreparedRun, inspection: Inspection | ClassInspection) -> None:
    coloured = options.output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = _written(inspection, options.format, coloured=coloured)
    if options.format == "html":
        _write(options.output or run.run_dir / "inspect.html", text)
    elif options.output is not None:
        _write(options.output, text)
    else:
        print(text, end="")


def _written(inspection: Inspection | ClassInspection, form: str, *, coloured: bool) -> str:
    """A report as text, json or html."""
    from vlm_lit.commands.inspect_classes import class_json, class_page, class_text
    from vlm_lit.commands.inspect_json import as_json
    from vlm_lit.commands.inspect_page import as_page
    from vlm_lit.commands.inspect_pairs import pair_json, pair_page, pair_text
    from vlm_lit.commands.inspect_text import as_text
    from vlm_lit.preflight.inspection.class_report import ClassInspection
    from vlm_lit.preflight.inspection.pair_report import PairInspection

    if isinstance(inspection, ClassInspection):
        if form == "text":
            return class_text(inspection, coloured=coloured)
        return class_json(inspection) if form == "json" else class_page(inspection)
    if isinstance(inspection, PairInspection):
        if form == "text":
            return pair_text(inspection, coloured=coloured)
        return pair_json(inspection) if form == "json" else pair_page(inspection)
    if form == "text":
        return as_text(inspection, coloured=coloured)
    return as_json(inspection) if form == "json" else as_page(inspection)


def _write(path: Path, text: str) -> None:
    write_output(path, text)
    print(f"Written to {path}", file=sys.stderr)
