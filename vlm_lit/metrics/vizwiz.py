"""VizWiz accuracy, of one answer and over a data set.

Source of the definition: Qing Li's evaluator as kept in TRI-ML/vlm-evaluation, snapshot d9f58967. Its average precision
and F1 of telling unanswerable questions take labels of their own, which answers alone don't hold; they are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references
from vlm_lit.vqa.agreement import agreement
from vlm_lit.vqa.normalize import one_line, vqa_normalise


def vizwiz_score(prediction: str, references: Sequence[str]) -> float:
    """Scores one answer against the answers people gave, as a fraction in [0, 1].

    The prediction is always normalised as in VQA v2, the references never are, so that one with a capital, an article
    or a full stop can't be met. Fewer than four references: as in `vqa_score`.

    Args:
        prediction: the model's answer.
        references: the accepted answers, one per annotator, repeats included.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("VizWiz accuracy", references)
    return agreement(list(references).count(_normalised(prediction)), len(references))


def _normalised(prediction: str) -> str:
    return vqa_normalise(one_line(prediction))


@dataclass(frozen=True)
class VizWizAccuracy(Rule):
    """VizWiz accuracy over a data set: the mean of `vizwiz_score`, overall and per group."""

    title: ClassVar[str] = "vizwiz"

    def counts(self, answer: Answer) -> Counts:
        """The item's `vizwiz_score`."""
        return (vizwiz_score(answer.prediction, answer.references),)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The prediction normalised, the references as they are."""
        return _normalised(answer.prediction), answer.references
