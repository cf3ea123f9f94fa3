"""`retention`: ask a run's model and its base the same general questions, and say what tuning gained and lost.

Each benchmark is an overlay such as those in configs/benchmark, or `workbench`: plain questions about drawn pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser, share, whole_number
from vlm_lit.commands.output_files import write_files
from vlm_lit.commands.verbs import program
from vlm_lit.errors import ConfigError, VlmLitError, printable

if TYPE_CHECKING:
    from vlm_lit.studies.retention.verdicts import Retention

WORKBENCH: Final = "workbench"
_BENCHMARKS: Final = Path("configs/benchmark")
_EPILOG = """Without --config: all of configs/benchmark that can be had, and workbench. Options of test go behind, for
both models alike (--trainer.accelerator cpu). Intervals are clustered by image and hold for all benchmarks together.
Exits with 0 where a loss above --max_loss is ruled out everywhere, with 1 where one is shown, else with 3."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Ask both models, compare, write and print; the exit status.

    Raises:
        VlmLitError: there is no run, or a benchmark that was named cannot be asked.
    """
    options, of_test = _parsed(verb, arguments)
    if not (options.run / "config.yaml").is_file():
        raise ConfigError(f"{options.run} holds no config.yaml, which fit writes. Name the directory of a run.")
    named = [Path(name) for name in options.config]
    twice = sorted(name for name, count in Counter(path.stem for path in named).items() if count > 1)
    if twice:
        raise ConfigError(
            f"--config names two benchmarks that are called {twice[0]}; folders and tables tell them apart by that. "
            "Name each once, and rename one of two files of one name."
        )
    overlays = named or [*sorted(_BENCHMARKS.glob("*.yaml")), Path(WORKBENCH)]
    for path in overlays:
        if path != Path(WORKBENCH):
            check("test", ["--config", str(options.run / "config.yaml"), "--config", str(path), *of_test])
    output: Path = options.output or options.run / "retention"
    folders, missing = [], []
    with redirect_stdout(sys.stderr):
        for path in overlays:
            try:
                folders.append(_asked(options, path, output, of_test))
            except VlmLitError as error:
                if named:
                    raise
                missing.append((path.stem, " ".join(str(error).split())))
                print(f"warning: {path.stem} is left out: {missing[-1][1]}", file=sys.stderr)
    from vlm_lit.studies.retention.verdicts import retained

    found = retained(str(options.run), folders, max_loss=options.max_loss, missing=missing)
    _write(output, found, options.examples)
    print(_text(found, output))
    return found.status


def _parsed(verb: str, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    # No positional argument: argparse would take the value of an option of test for it.
    named = [Path(word) for word in arguments[:1] if not word.startswith("-")]
    usage = f"{program()} {verb} RUN [--config FILE ...] [options]"
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG, usage=usage)
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help=f"a benchmark's overlay, or {WORKBENCH}; repeat it",
    )
    parser.add_argument(
        "--limit", type=whole_number(0), default=200, help="the first so many questions of each benchmark; 0: all"
    )
    parser.add_argument("--max_loss", type=_loss, default=0.02, help="largest loss of the mean score, a fraction")
    parser.add_argument("--output", type=Path, help="folder for the page and the answers; otherwise RUN/retention")
    parser.add_argument("--examples", type=whole_number(0), default=6, help="questions shown as lost, and as gained")
    options, rest = parser.parse_known_args(arguments[len(named) :])
    if not named:
        parser.error("RUN must be given, before any option")
    options.run = named[0]
    return options, rest


def _loss(text: str) -> float:
    """A share; not all of it, as "1" for one point would be."""
    value = share(text)
    if value == 1.0:
        raise argparse.ArgumentTypeError(f"{text} would allow any loss; a point is 0.01")
    return value


def _asked(options: argparse.Namespace, overlay: Path, output: Path, of_test: Sequence[str]) -> tuple[str, Path, Path]:
    """A benchmark's name, the folder of the tuned model's answers, and that of the base's."""
    from vlm_lit.commands.retention_runs import ask_both, workbench_overlay

    name, folder = overlay.stem, output / overlay.stem
    if overlay == Path(WORKBENCH):
        overlay = workbench_overlay(folder, options.limit or 200)
    limit = [f"--data.init_args.test.limit={options.limit or 'null'}"]
    tuned, base = ask_both(options.run, overlay, folder, [*limit, *of_test])
    return name, tuned, base


def _write(output: Path, found: Retention, examples: int) -> None:
    from vlm_lit.studies.page_parts.tables import markdown_table
    from vlm_lit.studies.retention.retention_page import as_page
    from vlm_lit.studies.retention.verdicts import as_json, table

    header, rows = table(found)
    write_files(
        output,
        {
            "retention.html": as_page(found, examples=examples),
            "retention.json": json.dumps(as_json(found), indent=2) + "\n",
            "retention.md": f"{found.sentence}\n\n{markdown_table(header, rows)}\n",
        },
    )


def _text(found: Retention, output: Path) -> str:
    from vlm_lit.studies.comparing.comparison_text import aligned
    from vlm_lit.studies.retention.verdicts import table

    header, rows = table(found)
    missing = [f"not asked: {name} ({why})" for name, why in found.missing]
    lines = [found.sentence, *aligned([header, *rows]).splitlines(), *missing, f"Page: {output / 'retention.html'}"]
    return "\n".join(printable(line) for line in lines).replace("\N{MINUS SIGN}", "-")
