"""ViLT's own score of a VQA answer: the soft target that its training gives that answer.

Source of the definition: dandelin/ViLT, `vilt/utils/write_vqa.py` (`get_score`) and `vilt/gadgets/my_metrics.py`
(`VQAScore`), snapshot 762fd397. It is not VQA accuracy: references are compared letter by letter, and its published
validation figures leave out questions of which no answer is in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references
from vlm_lit.vqa.agreement import vilt_agreement


def vilt_score(prediction: str, references: Sequence[str]) -> float:
    """The score of one answer against those people gave, as a fraction in [0, 1]: 0, 0.3, 0.6, 0.9 or 1.

    Fewer than four references are no ten people's answers: a match with any of them scores 1, as in `vqa_score`.

    Args:
        prediction: the model's answer, one of its vocabulary.
        references: the accepted answers, one per annotator, repeats included; compared as they are.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("ViLT's score", references)
    return vilt_agreement(list(references).count(prediction), len(references))


@dataclass(frozen=True)
class ViltScore(Rule):
    """ViLT's score over a data set: the mean of `vilt_score`, overall and per group."""

    title: ClassVar[str] = "vilt_score"

    def counts(self, answer: Answer) -> Counts:
        """The item's `vilt_score`."""
        return (vilt_score(answer.prediction, answer.references),)
