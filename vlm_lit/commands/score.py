"""`score`: judge the answers in a file by a benchmark's metric. No model is loaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from vlm_lit.commands.amber_files import read_amber
from vlm_lit.commands.answer_columns import parsed_columns
from vlm_lit.commands.answer_files import read_records
from vlm_lit.commands.coco_files import are_coco_files, read_coco
from vlm_lit.commands.filed_rows import FiledAnswer
from vlm_lit.commands.official_files import read_official
from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.output_files import write_output
from vlm_lit.commands.score_report import report_of
from vlm_lit.commands.server_answers import write_server_file
from vlm_lit.errors import ConfigError
from vlm_lit.metrics.amber import AMBER
from vlm_lit.metrics.catalogue import RULES, rule, said_options
from vlm_lit.metrics.chair import CHAIR
from vlm_lit.metrics.rules import Rule
from vlm_lit.studies.run_files.server_files import FILLED, FORMATS

_OPTION: Final = "--options."


def run(verb: str, arguments: Sequence[str]) -> int:
    """Read, judge, write and print; the exit status."""
    rest, said = metric_options(arguments)
    parser = _parser(verb)
    asked = parser.parse_args(rest)
    needed = ("output", "records") if asked.server is not None else ("metric", "output")
    for name in needed:  # after argparse has had its say on the others: a mistyped one is named first
        if getattr(asked, name) is None:
            parser.error(f"--{name} must be given")
    _refuse_overwriting(parser, asked)
    if asked.server is not None:
        return _hand_in(parser, asked, said)
    options = said_options(asked.metric, said)
    chosen = rule(asked.metric, options)
    filed = _read(parser, asked, chosen)
    led, note = by_references(asked.metric, options, filed) or (chosen, "")
    report = report_of(led, filed)
    write_output(asked.output, json.dumps(report.as_json(), indent=1, allow_nan=False) + "\n")
    print("\n".join(filter(None, [report.as_text(), note, f"Written to {asked.output}"])))
    return 0


def _hand_in(parser: OptionParser, asked: argparse.Namespace, options: Collection[str]) -> int:
    filled = asked.server in FILLED
    names = ["metric", "predictions", "questions", "columns", *([] if filled else ["annotations"])]
    given = [f"--{name}" for name in names if getattr(asked, name) is not None]
    given += [f"{_OPTION}{name}" for name in options]
    if given:
        parser.error(f"--server judges nothing: it takes --records and --output, and not {given[0]}")
    template = asked.annotations or []
    if filled and len(template) != 1:
        parser.error(f"--server {asked.server} fills in the benchmark's own file: give that one by --annotations")
    count = write_server_file(asked.server, asked.records, asked.output, *template)
    print(f"{count:,} answers written to {asked.output}")
    return 0


def by_references(name: str, options: Mapping[str, object], filed: Sequence[FiledAnswer]) -> tuple[Rule, str] | None:
    """The normalised metric and word of it, where `vqa_accuracy` was named without saying how it compares.

    That is what leads an evaluation too where no question has more than one reference: the official comparison is
    then letter by letter. None where it was said, or a question has several; `vqa_v2` is the benchmark's own.
    """
    if name != "vqa_accuracy" or "normalize" in options or any(len(item.answer.references) > 1 for item in filed):
        return None
    note = (
        "No question has more than one reference: answers are compared normalised (normalize=always). To compare "
        f"letter by letter, as VQA v2 does where all ten agree: {_OPTION}normalize official."
    )
    return rule(name, {**options, "normalize": "always"}), note


def _parser(verb: str) -> OptionParser:
    alike: dict[str, list[str]] = {}
    for name, kind in RULES.items():
        alike.setdefault(", ".join(_described(kind)) or "no options", []).append(name)
    lines = [f"  {', '.join(names)}: {described}" for described, names in alike.items()]
    parser = OptionParser(
        verb,
        description=__doc__,
        epilog="metrics and their options, each given as --options.NAME VALUE:\n" + "\n".join(lines),
    )
    parser.add_argument("--metric", metavar="NAME", help="one of those below, or the class path of your own")
    parser.add_argument("--output", metavar="FILE", type=Path, help="file to write: JSON, or what --server names")
    records = (
        "answers with references: a run's predictions.jsonl; lmms-eval's, LLaMA-Factory's, ms-swift's, VLMEvalKit's; "
        "or records with id, prediction, references (image_id, choices, groups)"
    )
    parser.add_argument("--records", metavar="FILE", type=Path, nargs="+", help=records)
    results = "answers alone: what a benchmark's server is handed, LLaVA's answers, or a run's predictions.jsonl"
    parser.add_argument("--predictions", metavar="FILE", type=Path, help=results)
    published = (
        "what these answer: VQA, OK-VQA, TextVQA, DocVQA, VizWiz, GQA, A-OKVQA, AMBER; COCO's captions and instances "
        "(chair); or records with ids"
    )
    parser.add_argument("--annotations", metavar="FILE", type=Path, nargs="+", help=published)
    questions = "VQA's, to be compared; AMBER's, for their pictures"
    parser.add_argument("--questions", metavar="FILE", type=Path, help=questions)
    columns = "of any other file: prediction=NAME,id=NAME (and references, image_id, choices, groups)"
    parser.add_argument("--columns", metavar="KEYS", help=columns)
    servers = (
        f"judge nothing; write a run's --records for this server or judge: {', '.join(FORMATS)}; mmhal, whose "
        "response_template.json is --annotations"
    )
    parser.add_argument("--server", metavar="NAME", choices=(*FORMATS, *FILLED), help=servers)
    return parser


def _described(kind: type[Rule]) -> list[str]:
    return [f"{option.name}={str(option.default).lower()}" for option in fields(kind)]


def metric_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What argparse knows, and the metric's own options as they are written; `said_options` gives them their types."""
    rest: list[str] = []
    options: dict[str, str] = {}
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
        options[name] = value
    return rest, options


def _refuse_overwriting(parser: OptionParser, asked: argparse.Namespace) -> None:
    for path in (*(asked.records or []), asked.predictions, *(asked.annotations or []), asked.questions):
        if path is not None and path.resolve() == asked.output.resolve():
            parser.error(f"--output {path} would overwrite what is to be judged")


def _read(parser: OptionParser, asked: argparse.Namespace, chosen: Rule) -> list[FiledAnswer]:
    columns = parsed_columns(asked.columns)
    given = [f"--{name}" for name in ("predictions", "annotations", "questions") if getattr(asked, name) is not None]
    if asked.records is not None:
        if given:
            parser.error(f"--records is a file of its own and cannot go with {' and '.join(given)}")
        if len(asked.records) > 1:
            parser.error("--records takes one file; several are put together for a --server alone")
        return read_records(asked.records[0], columns)
    if asked.predictions is None or asked.annotations is None:
        parser.error("give either --records, or --predictions and --annotations")
    if isinstance(chosen, CHAIR) and are_coco_files(asked.annotations):
        if asked.questions is not None:
            parser.error("--questions is for VQA; COCO's images are all asked the same")
        return read_coco(asked.predictions, asked.annotations, columns)
    if len(asked.annotations) > 1:
        parser.error(
            "--annotations takes one file; several are for chair alone, which takes COCO's captions and instances"
        )
    if isinstance(chosen, AMBER):
        return read_amber(asked.predictions, asked.annotations[0], asked.questions, columns)
    return read_official(asked.predictions, asked.annotations[0], asked.questions, metric=chosen.title, columns=columns)
