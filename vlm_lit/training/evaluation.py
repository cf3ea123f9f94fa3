"""How do a rank's answers become one judged list on every rank?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch.distributed as dist

from vlm_lit.metrics.accumulators import PerItemAccuracy
from vlm_lit.metrics.string_match import ExactMatch
from vlm_lit.metrics.vqa_accuracy import VQAAccuracy
from vlm_lit.schema import Prediction


class Evaluation:
    """Collects answers over one evaluation and judges them.

    The first metric is the leading one: its score stands in `predictions.jsonl`.
    """

    def __init__(self) -> None:
        self.metrics: Mapping[str, PerItemAccuracy] = {"vqa_accuracy": VQAAccuracy(), "exact_match": ExactMatch()}
        self.predictions: list[Prediction] = []

    @property
    def leading(self) -> PerItemAccuracy:
        """The metric whose score a prediction carries."""
        return next(iter(self.metrics.values()))

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Judge one batch; a prediction without references is kept unjudged."""
        judged = [p for p in predictions if p.references]
        if judged:
            for metric in self.metrics.values():
                metric.update(
                    [p.prediction for p in judged],
                    [p.references for p in judged],
                    [p.id for p in judged],
                    [p.groups for p in judged],
                )
        score = self.leading.score
        self.predictions += [
            replace(p, score=score(p.prediction, p.references)) if p.references else p for p in predictions
        ]

    def finish(self) -> tuple[list[Prediction], dict[str, float]]:
        """All ranks' predictions, once each in order of first sight, and every metric's values as fractions."""
        values: dict[str, float] = {}
        for name, metric in self.metrics.items():
            if self.predictions and any(p.references for p in self.predictions):
                values |= {_key(name, group): value for group, value in metric.compute().items()}
        return _unique(_gathered(self.predictions)), values


def _key(metric: str, group: str) -> str:
    """`vqa_accuracy`, `vqa_accuracy/number` (the official answer types), `vqa_accuracy/question_type/colour`."""
    if group == "overall":
        return metric
    return f"{metric}/{group.removeprefix('answer_type/')}"


def _gathered(predictions: list[Prediction]) -> list[Prediction]:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return predictions
    gathered: list[list[Prediction]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, predictions)
    # Questions are dealt out to the ranks in turn; taking them in turn restores the file's order.
    longest = max(map(len, gathered))
    return [part[i] for i in range(longest) for part in gathered if i < len(part)]


def _unique(predictions: Sequence[Prediction]) -> list[Prediction]:
    return list({p.id: p for p in reversed(predictions)}.values())[::-1]
