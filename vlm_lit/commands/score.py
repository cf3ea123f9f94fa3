"""`score`: judge the answers in a file by a benchmark's metric. No model is loaded."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_files import read_records
from vlm_lit.commands.filed_rows import FiledAnswer
from vlm_lit.commands.official_files import read_official
from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.output_files import write_output
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.catalogue import RULES, rule
from vlm_lit.metrics.rules import Counts, Rule, column_sums, counted, judged

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
    write_output(asked.output, json.dumps(report.as_json(), indent=1, allow_nan=False) + "\n")
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


@dataclass(frozen=True)
class ScorePart:
    """Judged items: how many, and the rule's values over them, as fractions (words, where the rule is no score)."""

    n: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class ScoreReport:
    """What a metric says about a file of answers.

    `groups` are by group, then value. `left_out` counts the items that the metric does not judge.
    """

    rule: Rule
    whole: ScorePart
    groups: Mapping[str, Mapping[str, ScorePart]]
    unparsed: int
    left_out: int
    per_item: Mapping[str, float]
    image_ids: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """The report as it is written: overall, details and groups in percent, items as fractions."""
        groups = {
            group: {value: {"score": self._score(part), "n": part.n} for value, part in parts.items()}
            for group, parts in self.groups.items()
        }
        return {
            "metric": self.rule.name,
            "options": self.rule.options,
            "overall": self._score(self.whole),
            "details": self._details(),
            "groups": groups,
            "n": self.whole.n,
            "unparsed": self.unparsed,
            "per_item": self.per_item,
            "image_ids": self.image_ids,
        }

    def as_text(self) -> str:
        """The report as a table."""
        rows = [("overall", self.whole)]
        rows += [(f"{group}/{value}", part) for group, parts in self.groups.items() for value, part in parts.items()]
        if not self.rule.is_score:
            rows = []
        lines = [(name, f"{part.n:,}", f"{self._score(part):.2f}") for name, part in rows]
        lines += [(name, "", f"{value:.2f}") for name, value in self._details().items()]
        unit = "%" if self.rule.is_score else ""
        width = max(len(name) for name, *_ in [(self.rule.name,), *lines])
        table = [f"{name:<{width}}  {n:>9}  {value:>8}" for name, n, value in [(self.rule.name, "n", unit), *lines]]
        notes = [f"{self.unparsed:,} unparsed"] if self.unparsed else []
        notes += [f"{self.left_out:,} left out by this metric"] if self.left_out else []
        return "\n".join(_printable(line.rstrip()) for line in [*table, *notes])

    def _details(self) -> dict[str, float]:
        parts = [("", self.whole)]
        parts += [(f"{group}/{value}/", part) for group, found in self.groups.items() for value, part in found.items()]
        return {
            f"{prefix}{name}": self._shown(value)
            for prefix, part in parts
            for name, value in part.values.items()
            if name != "overall"
        }

    def _score(self, part: ScorePart) -> float | None:
        return self._shown(part.values["overall"]) if self.rule.is_score else None

    def _shown(self, value: float) -> float:
        # Ten digits after the point: 55.0 rather than 55.00000000000001.
        return round(100 * value, 10) if self.rule.is_score else value


def report_of(chosen: Rule, filed: Sequence[FiledAnswer]) -> ScoreReport:
    """Judges a file's answers.

    Raises:
        VlmLitError: an item cannot be judged, or none is left; names it.
    """
    items = [(item, counts) for item in filed if (counts := _counted(chosen, item)) is not None]
    if not items:
        raise VlmLitError(f"{chosen.name} leaves out all {len(filed):,} items. Give others, or use another metric.")
    members: dict[str, dict[str, list[Counts]]] = {}
    for item, counts in items:
        for group, value in chosen.groups(item.answer).items():
            members.setdefault(group, {}).setdefault(value, []).append(counts)
    groups = {group: {v: _part(chosen, parts[v]) for v in sorted(parts)} for group, parts in sorted(members.items())}
    everything = [counts for _, counts in items]
    whole = _part(chosen, everything)
    across = chosen.across((group, part.values) for group, parts in groups.items() for part in parts.values())
    scores = {item.answer.id: chosen.score_of(counts) for item, counts in items}
    return ScoreReport(
        rule=chosen,
        whole=ScorePart(whole.n, {**whole.values, **across}),
        groups=groups,
        unparsed=chosen.unparsed(column_sums(everything)),
        left_out=len(filed) - len(items),
        per_item={id_: score for id_, score in scores.items() if score is not None},
        image_ids={item.answer.id: item.image_id for item, _ in items if item.image_id is not None},
    )


def _printable(text: str) -> str:
    """`text` with what would steer a terminal written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _part(chosen: Rule, counts: Sequence[Counts]) -> ScorePart:
    return ScorePart(len(counts), judged(chosen, counts))


def _counted(chosen: Rule, item: FiledAnswer) -> Counts | None:
    try:
        return counted(chosen, item.answer)
    except ConfigError:
        raise
    except VlmLitError as error:
        raise VlmLitError(f"{item.file}, record {item.record}: {error}") from error
