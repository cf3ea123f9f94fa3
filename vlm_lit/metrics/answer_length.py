"""Answer length: mean words of the predictions and of the references, which is no score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references


@dataclass(frozen=True)
class AnswerLength(Rule):
    """Mean words of the predictions and of the references, and their ratio; overall and per group.

    Words are what blanks separate. An item with several references counts their mean. There is no `overall` and no
    score of an item: longer is not better. Where the references hold no words there is no ratio.
    """

    title: ClassVar[str] = "answer_length"
    columns: ClassVar[int] = 2
    is_score: ClassVar[bool] = False

    def counts(self, answer: Answer) -> Counts:
        """Words of the prediction and of its references."""
        need_references("Answer length", answer.references)
        lengths = [len(reference.split()) for reference in answer.references]
        return float(len(answer.prediction.split())), math.fsum(lengths) / len(lengths)

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """Means in words, and prediction over reference."""
        predicted, expected = sums
        found = {"prediction_words": predicted / n, "reference_words": expected / n}
        return {**found, "ratio": predicted / expected} if expected else found
