"""What is the VQA accuracy of an answer that several people gave answers to?

Source of the definition: GT-Vision-Lab/VQA, `vqaEval.py`, snapshot a013f004 (VQA v2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

from vlm_lit.metrics.accumulators import PerItemAccuracy, named_with_options
from vlm_lit.metrics.normalize import vqa_normalise
from vlm_lit.schema import ConfigError, VlmLitError

Normalize = Literal["official", "always"]
Aggregation = Literal["leave_one_out", "min3"]

ENOUGH_MATCHES: Final = 3
"""So many agreeing people make an answer fully right."""


def vqa_score(
    prediction: str,
    references: Sequence[str],
    *,
    normalize: Normalize = "official",
    aggregation: Aggregation = "leave_one_out",
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

    Raises:
        VlmLitError: there are no references.
        ConfigError: an option is unknown.
    """
    _check_options(normalize, aggregation)
    if not references:
        raise VlmLitError("VQA accuracy needs at least one reference answer, got none. Give the record its answers.")
    matches = _matches(prediction, references, normalize)
    if len(references) <= ENOUGH_MATCHES:
        return float(matches > 0)
    return _AGGREGATIONS[aggregation](matches, len(references))


def _check_options(normalize: str, aggregation: str) -> None:
    for option, value, allowed in (
        ("normalize", normalize, get_args(Normalize)),
        ("aggregation", aggregation, get_args(Aggregation)),
    ):
        if value not in allowed:
            raise ConfigError(f"VQA accuracy: {option}={value!r} is unknown. Write one of: {', '.join(allowed)}.")


def _matches(prediction: str, references: Sequence[str], normalize: Normalize) -> int:
    prediction, references = _one_line(prediction), [_one_line(reference) for reference in references]
    # Unanimous references are compared raw in the official code: `Yes` against ten `yes` scores 0.
    if normalize == "always" or len(set(references)) > 1:
        prediction, references = vqa_normalise(prediction), [vqa_normalise(reference) for reference in references]
    return references.count(prediction)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _leave_one_out(matches: int, n: int) -> float:
    """The mean over annotators in closed form; one division of integers, so that 0.3 is the float 0.3."""
    agreeing = matches * min(ENOUGH_MATCHES, matches - 1)
    others = (n - matches) * min(ENOUGH_MATCHES, matches)
    return (agreeing + others) / (ENOUGH_MATCHES * n)


def _min3(matches: int, n: int) -> float:  # noqa: ARG001 - both aggregations take the same two numbers
    return min(1.0, matches / ENOUGH_MATCHES)


_AGGREGATIONS: Final[dict[str, Callable[[int, int], float]]] = {"leave_one_out": _leave_one_out, "min3": _min3}


class VQAAccuracy(PerItemAccuracy):
    """VQA accuracy over a data set: the mean of `vqa_score`, overall and per group.

    Where an item has fewer than four references it is the single-answer case, which is not VQA v2: see `vqa_score`.

    Args:
        normalize: see `vqa_score`.
        aggregation: see `vqa_score`.

    Raises:
        ConfigError: an option is unknown.
    """

    def __init__(self, normalize: Normalize = "official", aggregation: Aggregation = "leave_one_out") -> None:
        _check_options(normalize, aggregation)
        super().__init__()
        self.normalize: Normalize = normalize
        self.aggregation: Aggregation = aggregation

    @property
    def name(self) -> str:
        """What reports call it, every option that is not the default included."""
        options = {
            "normalize=always": self.normalize == "always",
            "aggregation=min3": self.aggregation == "min3",
        }
        return named_with_options("vqa_accuracy", options)

    def score(self, prediction: str, references: Sequence[str]) -> float:
        """Scores one item with `vqa_score` under this metric's options."""
        return vqa_score(prediction, references, normalize=self.normalize, aggregation=self.aggregation)
