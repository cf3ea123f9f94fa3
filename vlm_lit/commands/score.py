"""`score`: judge the answers in a file by a benchmark's metric. No model is loaded."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_files import read_records
from vlm_lit.commands.filed_rows import FiledAnswer
from vlm_lit.commands.official_files import read_official
from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.score_report import report_of
from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole
from vlm_lit.metrics.catalogue import RULES, rule
from vlm_lit.metrics.rules import Rule

_OPTION: Final = "--options."
_WORDS: Final = {"true": True, "false": False}


def run(verb: str, arguments: Sequence[str]) -> int:
    """Read, judge, write and print; the exit status."""
    rest, options = _split(arguments)
    parser = _parser(verb)
    asked = parser.parse_args(rest)
    for name in ("metric", "output"):  # after argparse has had its say on the others: a mistyped one is named first
        if getattr(asked, name) is None:
            parser.error(f"--{name} must be given")
    chosen = rule(asked.metric, options)
    filed = _read(parser, asked, chosen)
    report = report_of(chosen, filed)
    write_report(asked.output, report.as_json())
    print(f"{report.as_text()}\nWritten to {asked.output}")
    return 0


def _parser(verb: str) -> OptionParser:
    lines = [f"  {name}: {', '.join(_described(kind)) or 'no options'}" for name, kind in RULES.items()]
    parser = OptionParser(
        verb,
        description=__doc__,
        epilog="metrics and their options, each given as --options.NAME VALUE:\n" + "\n".join(lines),
    )
    parser.add_argument("--metric", help="one of those below, or the class path of your own")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    records = "records with id, prediction, references and, where they apply, image_id, choices, groups: "
    parser.add_argument("--records", type=Path, help=records + ".jsonl or .json, a run's predictions or lmms-eval's")
    published = "annotations of the same questions as published: VQA, TextVQA, DocVQA, VizWiz, GQA, A-OKVQA"
    parser.add_argument(
        "--predictions", type=Path, help="what a benchmark's server is handed: its answers by its own ids"
    )
    parser.add_argument("--annotations", type=Path, help=published)
    parser.add_argument("--questions", type=Path, help="VQA questions, to check that they are the same")
    return parser


def _described(kind: type[Rule]) -> list[str]:
    return [f"{option.name}={str(option.default).lower()}" for option in fields(kind)]


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    """What argparse knows, and the metric's own options."""
    rest: list[str] = []
    options: dict[str, object] = {}
    words = iter(arguments)
    for word in words:
        if not word.startswith(_OPTION):
            rest.append(word)
            continue
        name, given, value = word.removeprefix(_OPTION).partition("=")
        value = value if given else next(words, "")
        if not value or value.startswith("--"):
            raise ConfigError(f"{_OPTION}{name} has no value. Write {_OPTION}{name} VALUE.")
        if name in options:
            raise ConfigError(f"{_OPTION}{name} is given twice. Keep one.")
        options[name] = _value(value)
    return rest, options


def _value(text: str) -> object:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else _WORDS.get(text.lower(), text)


def _read(parser: OptionParser, asked: argparse.Namespace, chosen: Rule) -> list[FiledAnswer]:
    official = {name: getattr(asked, name) for name in ("predictions", "annotations", "questions")}
    given = [f"--{name}" for name, path in official.items() if path is not None]
    for path in (asked.records, *official.values()):
        if path is not None and path.resolve() == asked.output.resolve():
            parser.error(f"--output {path} would overwrite what is to be judged")
    if asked.records is not None:
        if given:
            parser.error(f"--records is a file of its own and cannot go with {' and '.join(given)}")
        return read_records(asked.records)
    if asked.predictions is None or asked.annotations is None:
        parser.error("give either --records, or --predictions and --annotations")
    return read_official(asked.predictions, asked.annotations, asked.questions, metric=chosen.title)


def write_report(path: Path, report: Mapping[str, object]) -> None:
    """Write a JSON file that is either the old one or the whole new one.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_whole(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}.") from error
