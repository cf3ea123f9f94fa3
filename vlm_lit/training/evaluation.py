"""Evaluation: the answers of all ranks collected and judged as one list."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, TypeAlias, TypeVar

from vlm_lit.errors import ConfigError
from vlm_lit.metrics.calibration import Bin, expected_calibration_error, reliability
from vlm_lit.metrics.catalogue import MetricSettings, rule
from vlm_lit.metrics.rules import Answer, Rule
from vlm_lit.metrics.summary import JudgedItem, judged_item, summarised
from vlm_lit.schema import Prediction
from vlm_lit.training.answering import Score
from vlm_lit.training.ranks import Ranks

_Met = TypeVar("_Met")
_JudgedPrediction: TypeAlias = tuple[Prediction, tuple[JudgedItem, ...]]

DEFAULT_METRICS: Final = (MetricSettings("vqa_accuracy"), MetricSettings("exact_match"))
ONE_REFERENCE: Final = MetricSettings("vqa_accuracy", {"normalize": "always"})
"""What leads by default where no question has more than one reference: vqa_accuracy compares those letter by letter."""


class Evaluation:
    """Collects answers over one evaluation and judges them.

    The first metric is the leading one: its score stands in `predictions.jsonl`.

    Args:
        metrics: the metrics by name, or by name and options; None takes VQA accuracy and exact match, led by VQA
            accuracy with normalize=always where no question has more than one reference.
        calibration: what the calibration error is called.

    Raises:
        ConfigError: a metric or option is unknown, one is asked for twice, or the leading one is no score.
    """

    def __init__(self, metrics: Sequence[MetricSettings | str] | None = None, calibration: str = "ece") -> None:
        self.ece_name = calibration
        self._metrics, self._rules = metrics, chosen_rules(metrics, one_reference=True)
        self._judged: list[_JudgedPrediction] = []

    @property
    def leading(self) -> Leading:
        """The metric whose score a prediction carries; the default's is known once `finish` has seen all references."""
        return Leading(self._rules[self._first])

    @property
    def _first(self) -> int:
        """Which of the rules leads: of the default ones the normalised one is left out if a question has several."""
        several = any(len(prediction.references) > 1 for prediction, _ in self._judged)
        return 1 if self._metrics is None and several else 0

    @property
    def predictions(self) -> list[Prediction]:
        """This rank's predictions, without their scores."""
        return [prediction for prediction, _ in self._judged]

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Judge one batch; a prediction without references is kept unjudged."""
        self._judged += [(p, self._items(p) if p.references else ()) for p in predictions]

    def _items(self, prediction: Prediction) -> tuple[JudgedItem, ...]:
        """A prediction as each rule judges it."""
        answer = answer_of(prediction)
        return tuple(judged_item(rule, answer, f"Record {answer.id!r}") for rule in self._rules)

    def finish(self, ranks: Ranks, places: Sequence[int] | None = None) -> tuple[list[Prediction], dict[str, float]]:
        """All ranks' predictions, once each in the file's order, and every metric's values as fractions.

        `places` are where this rank's items stand in the file; None takes the ranks' in turn. The values of
        `answer_length` are words and ratios; `left_out` is how many items a metric does not judge. The calibration
        error of the leading metric's scores comes last, where answers have a confidence.
        """
        self._judged = _of_all_ranks(self._judged, ranks, places)
        first, values = self._first, dict[str, float]()
        predictions = _unique(
            [replace(p, score=_score(self._rules[first], items[first])) if items else p for p, items in self._judged]
        )
        judged = [items for _, items in self._judged if items]
        for place in range(first, len(self._rules)) if judged else ():
            found = summarised(self._rules[place], (items[place] for items in judged))
            values |= {logged_name(found.rule.name, group): value for group, value in found.by_name().items()}
            if found.left_out:
                values[logged_name(found.rule.name, "left_out")] = float(found.left_out)
        bins = reliability_of(predictions) if self._rules[first].higher_is_better else []
        return predictions, values | ({self.ece_name: expected_calibration_error(bins)} if bins else {})


@dataclass(frozen=True)
class Leading:
    """The metric by which answers and runs are told apart."""

    rule: Rule

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.rule.name


def _score(rule: Rule, item: JudgedItem) -> float | None:
    return None if item.counts is None else rule.score_of(item.counts)


def answer_of(prediction: Prediction) -> Answer:
    """A prediction as a metric's rule takes it."""
    p = prediction
    return Answer(p.prediction, p.references, p.id, p.choices, p.groups)


def ece_name(score: Score) -> str:
    """What the calibration error is logged as: from means per token it is another quantity, and called so."""
    return "ece" if score == "sum" else f"ece[answer_score={score}]"


def reliability_of(predictions: Iterable[Prediction]) -> list[Bin]:
    """The bins of the answers that have a confidence and a score; none where there is no such answer."""
    judged = [(p.confidence, p.score) for p in predictions if p.confidence is not None and p.score is not None]
    return reliability(judged) if judged else []


def chosen_rules(metrics: Sequence[MetricSettings | str] | None, *, one_reference: bool = False) -> list[Rule]:
    """The definitions that settings name, the leading one first.

    Args:
        metrics: as `Evaluation`.
        one_reference: whether no question has more than one reference, by which the default is led.

    Raises:
        ConfigError: as `Evaluation`.
    """
    if metrics is None:
        metrics = (ONE_REFERENCE, *DEFAULT_METRICS) if one_reference else DEFAULT_METRICS
    settings = [MetricSettings(m) if isinstance(m, str) else m for m in metrics]
    rules = [rule(m.name, m.options) for m in settings]
    names = [r.name for r in rules]
    if not rules:
        raise ConfigError("metrics is empty. Name one at least, or leave it out for vqa_accuracy and exact_match.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"metrics: {twice} is asked for twice. Take one out, or give them different options.")
    if not rules[0].is_score:
        raise ConfigError(f"metrics: {names[0]} comes first, yet no answer has a score by it. Name another one first.")
    return rules


def logged_name(metric: str, group: str) -> str:
    """`vqa_accuracy`, `vqa_accuracy/number` (the official answer types), `vqa_accuracy/question_type/colour`."""
    if group == "overall":
        return metric
    return f"{metric}/{group.removeprefix('answer_type/')}"


def gathered(predictions: list[Prediction], ranks: Ranks, places: Sequence[int] | None = None) -> list[Prediction]:
    """All ranks' predictions, once each in the file's order; `places` as `Evaluation.finish` has them."""
    return _unique(_of_all_ranks(predictions, ranks, places))


def _of_all_ranks(mine: list[_Met], ranks: Ranks, places: Sequence[int] | None = None) -> list[_Met]:
    placed = list(zip(itertools.count() if places is None else places, mine, strict=False))  # fewer where limited
    found = [pair for share in ranks.each(placed) for pair in share]
    return [one for _, one in sorted(found, key=itemgetter(0))]


def _unique(predictions: Sequence[Prediction]) -> list[Prediction]:
    first: dict[str, Prediction] = {}
    for prediction in predictions:
        first.setdefault(prediction.id, prediction)
    return list(first.values())
