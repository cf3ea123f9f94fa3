"""TextVQA accuracy, of one answer and over a data set.

Source of the definition: facebookresearch/mmf, `m4c_evaluators.py`, snapshot b0ffc7fb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice
from vlm_lit.vqa.agreement import agreement
from vlm_lit.vqa.normalize import m4c_normalise, one_line, vqa_normalise

Normalizer = Literal["m4c", "vqa"]

ANNOTATORS: Final = 10


def textvqa_score(prediction: str, references: Sequence[str], *, normalizer: Normalizer = "m4c") -> float:
    """Scores one answer against those of ten people, as a fraction in [0, 1]: 0, 0.3, 0.6, 0.9 or 1.

    Unlike VQA v2's, unanimous references are normalised as well.

    Args:
        prediction: the model's answer.
        references: the answers of ten annotators, repeats included.
        normalizer: `m4c` (official) or `vqa`, VQA v2's, as VLMEvalKit has it.

    Raises:
        VlmLitError: there are not ten references.
        ConfigError: the normaliser is unknown.
    """
    check_choice("textvqa", "normalizer", normalizer, Normalizer)
    if len(references) != ANNOTATORS:
        raise VlmLitError(
            f"TextVQA accuracy needs ten reference answers, one per annotator, got {len(references)}. "
            "Give all ten, or use vqa_v2, anls or exact_match."
        )
    normalise = _NORMALIZERS[normalizer]
    matches = [normalise(reference) for reference in references].count(normalise(prediction))
    return agreement(matches, len(references))


def _vqa(text: str) -> str:
    return vqa_normalise(one_line(text))


_NORMALIZERS: Final[dict[str, Callable[[str], str]]] = {"m4c": m4c_normalise, "vqa": _vqa}


@dataclass(frozen=True)
class TextVQAAccuracy(Rule):
    """TextVQA accuracy over a data set: the mean of `textvqa_score`, overall and per group.

    Args:
        normalizer: see `textvqa_score`.

    Raises:
        ConfigError: the normaliser is unknown.
    """

    title: ClassVar[str] = "textvqa"

    normalizer: Normalizer = "m4c"

    def counts(self, answer: Answer) -> Counts:
        """The item's `textvqa_score` under these options."""
        return (textvqa_score(answer.prediction, answer.references, normalizer=self.normalizer),)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Normalised, both."""
        normalise = _NORMALIZERS[self.normalizer]
        return normalise(answer.prediction), [normalise(reference) for reference in answer.references]
