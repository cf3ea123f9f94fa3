"""GQA accuracy: exact match with the reference, after a processing step on request.

Source of the definition: Stanford's `eval.py` as kept in SHI-Labs/VCoder, snapshot 4e85acef; the `llava` processor is
the step that papers since LLaVA take before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references

Processor = Literal["none", "llava"]

STRUCTURAL: Final = "structural"
"""The group of a question's structural type (verify, query, choose, logical, compare), named as in GQA's `types`."""

FORM: Final = "form"
"""The group that follows from it: `open` for queries, `binary` for all other types."""


def gqa_score(prediction: str, references: Sequence[str], *, processor: Processor = "none") -> float:
    """Returns 1.0 if the prediction equals a reference, case and all, else 0.0.

    Args:
        prediction: the model's answer.
        references: the accepted answers; GQA has one.
        processor: `none` (official) or `llava`: full stops at the prediction's end are dropped, then it is lower-cased.

    Raises:
        VlmLitError: there are no references.
        ConfigError: the processor is unknown.
    """
    check_choice("gqa", "processor", processor, Processor)
    need_references("GQA accuracy", references)
    return float(_processed(prediction, processor) in references)


def _processed(prediction: str, processor: Processor) -> str:
    return prediction.rstrip(".").lower() if processor == "llava" else prediction


@dataclass(frozen=True)
class GQAAccuracy(Rule):
    """GQA accuracy over the balanced questions: the mean of `gqa_score`, overall and per group.

    Items with the group `structural` are in a group `form` as well: binary or open.

    Args:
        processor: see `gqa_score`.

    Raises:
        ConfigError: the processor is unknown.
    """

    title: ClassVar[str] = "gqa"

    processor: Processor = "none"

    def counts(self, answer: Answer) -> Counts:
        """The item's `gqa_score` under these options."""
        return (gqa_score(answer.prediction, answer.references, processor=self.processor),)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The prediction after `processor`, the references as they are."""
        return _processed(answer.prediction, self.processor), answer.references

    def groups(self, answer: Answer) -> Mapping[str, str]:
        """The item's groups, and whether it asks for one of two answers where its structural type says so."""
        structural = answer.groups.get(STRUCTURAL)
        if structural is None:
            return answer.groups
        return {FORM: "open" if structural == "query" else "binary", **answer.groups}
