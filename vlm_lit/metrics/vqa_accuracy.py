"""VQA accuracy of an answer to a question that several people answered.

Source of the definition: GT-Vision-Lab/VQA, `vqaEval.py`, snapshot a013f004 (VQA v2; also data in its form, as OK-VQA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references
from vlm_lit.vqa.agreement import Aggregation, agreement, compared_raw
from vlm_lit.vqa.normalize import m4c_normalise, one_line, vqa_normalise

Normalize = Literal["official", "always"]
PredictionProcessor = Literal["none", "m4c"]


def vqa_score(
    prediction: str,
    references: Sequence[str],
    *,
    normalize: Normalize = "official",
    aggregation: Aggregation = "leave_one_out",
    prediction_processor: PredictionProcessor = "none",
) -> float:
    """Scores one answer against the answers people gave, as a fraction in [0, 1].

    With m of n references equal to the prediction, `leave_one_out` is the mean over the annotators of
    min(1, matches among the others / 3): 0, 0.3, 0.6, 0.9, 1 for m = 0, 1, 2, 3, >= 4 of ten. `min3` is
    min(1, m / 3), as A-OKVQA and many papers have it; one match is then 0.333, not 0.3.

    Fewer than four references are not VQA v2: leaving one out of three could never reach 1. They are the case
    of data sets with a single ground truth, and under either aggregation any match scores 1, none 0.

    Args:
        prediction: the model's answer.
        references: the accepted answers, one per annotator, repeats included.
        normalize: `official` compares raw text, case and all, when the references are all the same, and
            normalised text otherwise; `always` normalises in either case, as most evaluation harnesses do.
        aggregation: `leave_one_out` (official) or `min3`.
        prediction_processor: `m4c` first treats the prediction as TextVQA does, which LLaVA and its successors do
            before they hand in VQA v2 results; needed to compare with their numbers.

    Raises:
        VlmLitError: there are no references.
        ConfigError: an option is unknown.
    """
    check_choice("vqa_accuracy", "normalize", normalize, Normalize)
    check_choice("vqa_accuracy", "aggregation", aggregation, Aggregation)
    check_choice("vqa_accuracy", "prediction_processor", prediction_processor, PredictionProcessor)
    need_references("VQA accuracy", references)
    prediction, references = _compared(prediction, references, normalize, prediction_processor)
    return agreement(references.count(prediction), len(references), aggregation)


def _compared(
    prediction: str, references: Sequence[str], normalize: Normalize, processor: PredictionProcessor
) -> tuple[str, list[str]]:
    prediction = m4c_normalise(prediction) if processor == "m4c" else one_line(prediction)
    references = [one_line(reference) for reference in references]
    if normalize == "always" or not compared_raw(references):
        return vqa_normalise(prediction), [vqa_normalise(reference) for reference in references]
    return prediction, references


@dataclass(frozen=True)
class VQAAccuracy(Rule):
    """VQA accuracy over a data set: the mean of `vqa_score`, overall and per group.

    Where an item has fewer than four references it is the single-answer case, which is not VQA v2: see `vqa_score`.

    Args:
        normalize: see `vqa_score`.
        aggregation: see `vqa_score`.
        prediction_processor: see `vqa_score`.

    Raises:
        ConfigError: an option is unknown.
    """

    title: ClassVar[str] = "vqa_accuracy"

    normalize: Normalize = "official"
    aggregation: Aggregation = "leave_one_out"
    prediction_processor: PredictionProcessor = "none"

    def counts(self, answer: Answer) -> Counts:
        """The item's `vqa_score` under these options."""
        score = vqa_score(
            answer.prediction,
            answer.references,
            normalize=self.normalize,
            aggregation=self.aggregation,
            prediction_processor=self.prediction_processor,
        )
        return (score,)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Normalised, unless the references are all the same and `normalize` is `official`."""
        return _compared(answer.prediction, answer.references, self.normalize, self.prediction_processor)
