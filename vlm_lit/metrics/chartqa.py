"""ChartQA's relaxed accuracy: a number may be 5 % off.

Source of the definition: google-research/pix2struct, `metrics.py::relaxed_correctness`, snapshot 945f27e9. ChartQA's
own repository compares exactly; this is the rule that papers mean by "relaxed accuracy".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references

Percent = Literal["fraction", "none"]

TOLERANCE: Final = 0.05
"""How far a number may be from the target, as a share of the target. Years are numbers: 2010 accepts 1910 to 2110."""


def chartqa_score(
    prediction: str,
    references: Sequence[str],
    *,
    strip_prediction: bool = False,
    percent: Percent = "fraction",
    ignore_case: bool = True,
) -> float:
    """Returns 1.0 if the prediction is right by any reference, else 0.0.

    Where both are numbers and the target isn't zero, right is what lies within 5 % of the target. Otherwise the texts
    have to be the same. What is a number, `float` says: `1e3`, ` 5 ` and `nan` are, `1,000` and `$5` are not.

    Args:
        prediction: the model's answer.
        references: the accepted answers.
        strip_prediction: drop blanks at the prediction's ends first, as Qwen-VL and VLMEvalKit do.
        percent: `fraction` reads `57%` as 0.57, so that `57` and `57%` are different answers; `none` takes it for no
            number, and lets a target of zero be met by any zero, as UniChart does.
        ignore_case: compare texts lower-cased; PaliGemma does not.

    Raises:
        VlmLitError: there are no references.
        ConfigError: an option is unknown.
    """
    check_choice("chartqa_relaxed", "percent", percent, Percent)
    need_references("ChartQA's relaxed accuracy", references)
    prediction = prediction.strip() if strip_prediction else prediction
    right = (_is_right(prediction, r, percent=percent, ignore_case=ignore_case) for r in references)
    return float(any(right))


def _is_right(prediction: str, target: str, *, percent: Percent, ignore_case: bool) -> bool:
    p, t = _number(prediction, percent), _number(target, percent)
    if p is not None and t is not None:
        if t != 0:
            return abs(p - t) / abs(t) <= TOLERANCE
        if percent == "none" and p == 0:
            return True
    return prediction.lower() == target.lower() if ignore_case else prediction == target


def _number(text: str, percent: Percent) -> float | None:
    try:
        if percent == "fraction" and text.endswith("%"):
            return float(text.rstrip("%")) / 100
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class ChartQARelaxedAccuracy(Rule):
    """Relaxed accuracy over a data set: the mean of `chartqa_score`, overall and per group (human, augmented).

    Args:
        strip_prediction: see `chartqa_score`.
        percent: see `chartqa_score`.
        ignore_case: see `chartqa_score`.

    Raises:
        ConfigError: an option is unknown.
    """

    title: ClassVar[str] = "chartqa_relaxed"

    strip_prediction: bool = False
    percent: Percent = "fraction"
    ignore_case: bool = True

    def counts(self, answer: Answer) -> Counts:
        """The item's `chartqa_score` under these options."""
        score = chartqa_score(
            answer.prediction,
            answer.references,
            strip_prediction=self.strip_prediction,
            percent=self.percent,
            ignore_case=self.ignore_case,
        )
        return (score,)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """A prediction that is right by a reference as that reference; in lower case if case is ignored."""
        said = answer.prediction.strip() if self.strip_prediction else answer.prediction
        met = (r for r in answer.references if _is_right(said, r, percent=self.percent, ignore_case=self.ignore_case))
        first, *others = [text.lower() if self.ignore_case else text for text in (next(met, said), *answer.references)]
        return first, others
