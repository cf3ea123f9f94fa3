"""A-OKVQA accuracy in the direct-answer setting.

Source of the definition: allenai/aokvqa, `evaluation/eval_predictions.py`, snapshot 83786de0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references
from vlm_lit.vqa.agreement import min3

DIFFICULT: Final = "difficult_direct_answer"
"""The data set's flag of questions that can't be answered without their choices; a group of the same name holds it."""


def aokvqa_score(prediction: str, references: Sequence[str]) -> float:
    """Scores one direct answer: min(1, equal references / 3), nothing normalised and nobody left out.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("A-OKVQA accuracy", references)
    return min3(list(references).count(prediction))


@dataclass(frozen=True)
class AOKVQAAccuracy(Rule):
    """The mean of `aokvqa_score`, without the items whose group `difficult_direct_answer` is `true`."""

    title: ClassVar[str] = "aokvqa"

    def counts(self, answer: Answer) -> Counts | None:
        """The item's `aokvqa_score`, or None for a question that has no fair direct answer."""
        if answer.groups.get(DIFFICULT, "").lower() == "true":
            return None
        return (aokvqa_score(answer.prediction, answer.references),)
