"""Evaluation: the answers of all ranks collected and judged as one list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import torch.distributed as dist

from vlm_lit.errors import ConfigError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.calibration import Bin, expected_calibration_error, reliability
from vlm_lit.metrics.catalogue import MetricSettings, rule
from vlm_lit.metrics.rules import Answer, Rule
from vlm_lit.schema import Prediction
from vlm_lit.training.answering import Score

DEFAULT_METRICS: Final = (MetricSettings("vqa_accuracy"), MetricSettings("exact_match"))


class Evaluation:
    """Collects answers over one evaluation and judges them.

    The first metric is the leading one: its score stands in `predictions.jsonl`.

    Args:
        metrics: the metrics by name, or by name and options; None takes VQA accuracy and exact match.
        calibration: what the calibration error is called.

    Raises:
        ConfigError: a metric or option is unknown, one is asked for twice, or the leading one is no score.
    """

    def __init__(self, metrics: Sequence[MetricSettings | str] | None = None, calibration: str = "ece") -> None:
        self.ece_name = calibration
        self.metrics = [ItemMetric(rule) for rule in chosen_rules(metrics)]
        self.predictions: list[Prediction] = []

    @property
    def leading(self) -> ItemMetric:
        """The metric whose score a prediction carries."""
        return self.metrics[0]

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Judge one batch; a prediction without references is kept unjudged."""
        judged = [p for p in predictions if p.references]
        if judged:
            for metric in self.metrics:
                metric.update(
                    [p.prediction for p in judged],
                    [p.references for p in judged],
                    [p.id for p in judged],
                    [p.groups for p in judged],
                    [p.choices for p in judged],
                )
        self.predictions += [replace(p, score=self._score(p)) if p.references else p for p in predictions]

    def finish(self) -> tuple[list[Prediction], dict[str, float]]:
        """All ranks' predictions, once each in order of first sight, and every metric's values as fractions.

        The values of `answer_length` are words and ratios. The calibration error of the leading metric's scores comes
        last, where answers have a confidence.
        """
        predictions, values = gathered(self.predictions), dict[str, float]()
        # Asked of all ranks' answers: computing is a meeting, which a rank without a question may not miss.
        if any(p.references for p in predictions):
            for metric in self.metrics:
                if not metric.update_called:
                    metric.update([], [], [])  # torchmetrics would warn
                values |= {logged_name(metric.name, group): value for group, value in metric.compute().items()}
        bins = reliability_of(predictions)
        return predictions, values | ({self.ece_name: expected_calibration_error(bins)} if bins else {})

    def _score(self, prediction: Prediction) -> float | None:
        return self.leading.rule.score(answer_of(prediction))


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


def chosen_rules(metrics: Sequence[MetricSettings | str] | None) -> list[Rule]:
    """The definitions that settings name, the leading one first.

    Raises:
        ConfigError: as `Evaluation`.
    """
    settings = [
        MetricSettings(m) if isinstance(m, str) else m for m in (DEFAULT_METRICS if metrics is None else metrics)
    ]
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


def gathered(predictions: list[Prediction]) -> list[Prediction]:
    """All ranks' predictions, once each in order of first sight."""
    return _unique(_of_all_ranks(predictions))


def _of_all_ranks(predictions: list[Prediction]) -> list[Prediction]:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return predictions
    gathered: list[list[Prediction]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, predictions)
    # Questions are dealt out to the ranks in turn; taking them in turn restores the file's order.
    longest = max(map(len, gathered))
    return [part[i] for i in range(longest) for part in gathered if i < len(part)]


def _unique(predictions: Sequence[Prediction]) -> list[Prediction]:
    first: dict[str, Prediction] = {}
    for prediction in predictions:
        first.setdefault(prediction.id, prediction)
    return list(first.values())
