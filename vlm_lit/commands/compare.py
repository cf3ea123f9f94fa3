"""`compare`: lay runs side by side, item by item, with intervals and a page to read. No model is loaded."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.output_files import write_files

if TYPE_CHECKING:
    from vlm_lit.studies.comparing.comparison import Comparison

FEWEST_RESAMPLES: Final = 10_000


def _at_least(smallest: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {smallest:,} up")
        return int(text)

    return count


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options, compare, write and print; the exit status."""
    parser = _parser(verb)
    options = parser.parse_intermixed_args(arguments)
    if len(options.runs) < 2:  # after argparse has had its say on the others: a mistyped --output is one of them
        parser.error(f"two RUNs or more must be given, got {len(options.runs)}")
    if options.output is None:
        parser.error("--output must be given")
    print(_compare(options))
    return 0


def _parser(verb: str) -> OptionParser:
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="*", metavar="RUN",
        help="a run directory, a scores.json that `score` wrote, or a file that lmms-eval (*_samples_*.jsonl) or "
        "VLMEvalKit (a table with `hit`) judged",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="folder for comparison.html, .json, .md, .tex and .csv")
    parser.add_argument(
        "--metric",
        metavar="KEY",
        help="which of the scores in files of lmms-eval or VLMEvalKit, where there are several",
    )
    parser.add_argument("--names", help="what to call the runs, in their order, with commas between")
    parser.add_argument(
        "--examples", type=_at_least(1), default=12, help="items shown side by side; half as many wins and losses"
    )
    parser.add_argument(
        "--intersect", action="store_true", help="compare the items that all have, where their ids differ"
    )
    parser.add_argument(
        "--se", choices=("cr1", "miller"), default="cr1", help="standard error clustered by image; see Miller 2024"
    )
    parser.add_argument(
        "--resamples", type=_at_least(FEWEST_RESAMPLES), default=FEWEST_RESAMPLES, help="of the bootstrap"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, help="of the bootstrap")
    return parser


def _compare(options: argparse.Namespace) -> str:
    from vlm_lit.commands.harness_samples import systems_of
    from vlm_lit.studies.comparing.alignment import align
    from vlm_lit.studies.comparing.comparison import Method, compare
    from vlm_lit.studies.comparing.comparison_text import as_text

    names = None if options.names is None else [name.strip() for name in options.names.split(",")]
    systems = systems_of(options.runs, names, options.metric)
    method = Method(kind=options.se, resamples=options.resamples, seed=options.seed)
    compared = compare(systems, align(systems, intersect=options.intersect), method)
    write_files(options.output, _files(compared, options.examples))
    return f"{as_text(compared)}\nPage: {options.output / 'comparison.html'}"


def _files(compared: Comparison, examples: int) -> dict[str, str]:
    from vlm_lit.studies.comparing import exports
    from vlm_lit.studies.comparing.page import as_page

    return {
        "comparison.json": exports.as_json(compared),
        "comparison.csv": exports.as_csv(compared),
        "comparison.md": exports.as_markdown(compared),
        "comparison.tex": exports.as_latex(compared),
        "comparison.html": as_page(compared, examples=examples),
    }
