"""Catalogue of the metrics: each found by its name and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from vlm_lit.errors import ConfigError, nearest
from vlm_lit.metrics.amber import AMBER
from vlm_lit.metrics.anls import ANLS
from vlm_lit.metrics.answer_length import AnswerLength
from vlm_lit.metrics.aokvqa import AOKVQAAccuracy
from vlm_lit.metrics.bleu import BLEU
from vlm_lit.metrics.chair import CHAIR
from vlm_lit.metrics.chartqa import ChartQARelaxedAccuracy
from vlm_lit.metrics.gqa import GQAAccuracy
from vlm_lit.metrics.json_fields import JsonFields
from vlm_lit.metrics.mmmu import MMMUAccuracy
from vlm_lit.metrics.multiple_choice import MultipleChoiceAccuracy
from vlm_lit.metrics.number import NumberAccuracy
from vlm_lit.metrics.own_rules import own_rule
from vlm_lit.metrics.pope import POPE
from vlm_lit.metrics.rouge import RougeL
from vlm_lit.metrics.rules import Rule, said_option
from vlm_lit.metrics.string_match import ExactMatch
from vlm_lit.metrics.textvqa import TextVQAAccuracy
from vlm_lit.metrics.vilt_score import ViltScore
from vlm_lit.metrics.vizwiz import VizWizAccuracy
from vlm_lit.metrics.vqa_accuracy import VQAAccuracy

if TYPE_CHECKING:
    from vlm_lit.metrics.accumulators import ItemMetric

RULES: Final[Mapping[str, type[Rule]]] = MappingProxyType(
    {
        "vqa_v2": VQAAccuracy,
        "vqa_accuracy": VQAAccuracy,  # what runs log it as
        "textvqa": TextVQAAccuracy,
        "chartqa_relaxed": ChartQARelaxedAccuracy,
        "anls": ANLS,
        "pope": POPE,
        "gqa": GQAAccuracy,
        "multiple_choice": MultipleChoiceAccuracy,
        "mmmu": MMMUAccuracy,
        "exact_match": ExactMatch,
        "vizwiz": VizWizAccuracy,
        "aokvqa": AOKVQAAccuracy,
        "vilt_score": ViltScore,
        "number": NumberAccuracy,
        "json_fields": JsonFields,
        "bleu": BLEU,
        "rouge_l": RougeL,
        "answer_length": AnswerLength,
        "chair": CHAIR,
        "amber": AMBER,
    }
)
_NO_OPTIONS: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True)
class MetricSettings:
    """A metric by name.

    Args:
        name: vqa_v2 (logged as vqa_accuracy), textvqa, chartqa_relaxed, anls, pope, gqa, multiple_choice, mmmu,
            exact_match, vizwiz, aokvqa, vilt_score, number, json_fields, bleu, rouge_l, answer_length, chair or
            amber; or the class path of your own, for example my_package.WithinOne (see vlm_lit.metrics.own_rules).
        options: what to change of the metric's definition, for example {normalize: always}.

    Raises:
        ConfigError: as `rule`; here, so that a mistyped name is found before a model is loaded.
    """

    name: str
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rule(self.name, self.options)


def rule(name: str, options: Mapping[str, object] = _NO_OPTIONS) -> Rule:
    """Returns the definition of a metric.

    Raises:
        ConfigError: there is no such metric, option or value; names what there is, and what was probably meant.
    """
    kind = _kind(name)
    known = [option.name for option in fields(kind)]
    for option in options:
        if option not in known:
            there = f"It has: {', '.join(known)}." if known else "It has none."
            raise ConfigError(f"The metric {name} has no option {option!r}.{_meant(option, known)} {there}")
    return kind(**options)


def said_options(name: str, options: Mapping[str, str]) -> dict[str, object]:
    """Returns a metric's options as a command line writes them, each in the type that the metric declares.

    Raises:
        ConfigError: there is no such metric.
    """
    kind = _kind(name)
    return {option: said_option(kind, option, text) for option, text in options.items()}


def _kind(name: str) -> type[Rule]:
    if "." in name:
        return own_rule(name)
    if name not in RULES:
        raise ConfigError(
            f"There is no metric {name!r}.{_meant(name, RULES)} Metrics are: {', '.join(RULES)}, or the class path of "
            "your own."
        )
    return RULES[name]


def less_is_better(reported: str | None) -> bool:
    """Whether a lower score of a metric is the better one.

    Args:
        reported: what reports call it, `chair[objects=...]`; that of a metric of the user's own is not known.
    """
    title = (reported or "").partition("[")[0].partition("/")[0]
    return any(kind.title == title and not kind.higher_is_better for kind in RULES.values())


def metric(name: str, options: Mapping[str, object] = _NO_OPTIONS) -> ItemMetric:
    """Returns a metric as a torchmetrics `Metric` with no items in it.

    Raises:
        ConfigError: as `rule`.
    """
    # Importing torchmetrics imports transformers where that is installed; whoever judges a file needs neither.
    from vlm_lit.metrics.accumulators import ItemMetric

    return ItemMetric(rule(name, options))


def _meant(written: str, known: Mapping[str, object] | list[str]) -> str:
    begun = (name for name in known if len(written) > 3 and name.startswith(written))  # chartqa is no typo of chair
    near = next(begun, None) or nearest(written, known)
    return f" Did you mean {near!r}?" if near else ""
