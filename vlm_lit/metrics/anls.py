"""ANLS: how near an answer to a document question is to its references, letter by letter.

Average normalised Levenshtein similarity of DocVQA and InfoVQA. Source of the definition: the Robust Reading
Competition's script as kept in QwenLM/Qwen-VL, `eval_mm/infographicsvqa_eval.py`, snapshot aa00ed04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references

Whitespace = Literal["collapse", "strip"]

THRESHOLD: Final = 0.5
"""Less similarity than this is taken for another answer, not for a misread one."""


def anls_score(
    prediction: str,
    references: Sequence[str],
    *,
    strict_threshold: bool = False,
    whitespace: Whitespace = "collapse",
) -> float:
    """Returns the similarity to the nearest reference in [0.5, 1], or 0.0 if none is as near as that.

    Similarity is 1 - edits / length of the longer text, in lower case.

    Args:
        prediction: the model's answer.
        references: the accepted answers.
        strict_threshold: a similarity of exactly 0.5 counts as none, as pix2struct, PaliGemma and Molmo have it.
        whitespace: `collapse` (official) compares with runs of blanks as one and none at the ends, yet takes the
            length of the texts as they came, so that blanks raise the score; `strip` drops blanks at the ends, from
            the length as well, as MMF and MP-DocVQA have it.

    Raises:
        VlmLitError: there are no references.
        ConfigError: an option is unknown.
    """
    check_choice("anls", "whitespace", whitespace, Whitespace)
    need_references("ANLS", references)
    score = 1 - min(_normalised_distance(prediction, reference, whitespace) for reference in set(references))
    return score if score > THRESHOLD or (score == THRESHOLD and not strict_threshold) else 0.0


def _normalised_distance(prediction: str, target: str, whitespace: Whitespace) -> float:
    """Edits over length; where that is surely too far for any score, a lower bound that is too far as well."""
    if whitespace == "strip":
        p, t = prediction.lower().strip(), target.lower().strip()
        longest = max(len(p), len(t))
    else:
        p, t = _collapsed(prediction), _collapsed(target)
        longest = max(len(prediction.upper()), len(target.upper()))
    if not longest:
        return 0.0
    surplus = abs(len(p) - len(t)) / longest  # no fewer edits than that, and most wrong answers end here
    return surplus if surplus > 1 - THRESHOLD else levenshtein(p, t) / longest


def _collapsed(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(a: str, b: str) -> int:
    """The least number of letters to insert, delete or replace that makes `a` into `b`."""
    if a == b:
        return 0
    above = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other)))
        above = row
    return above[-1]


@dataclass(frozen=True)
class ANLS(Rule):
    """ANLS over a data set: the mean of `anls_score`, overall and per group.

    Args:
        strict_threshold: see `anls_score`.
        whitespace: see `anls_score`.

    Raises:
        ConfigError: an option is unknown.
    """

    title: ClassVar[str] = "anls"

    strict_threshold: bool = False
    whitespace: Whitespace = "collapse"

    def counts(self, answer: Answer) -> Counts:
        """The item's `anls_score` under these options."""
        score = anls_score(
            answer.prediction,
            answer.references,
            strict_threshold=self.strict_threshold,
            whitespace=self.whitespace,
        )
        return (score,)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """In lower case with runs of blanks as one; how near two texts are does not show."""
        return _collapsed(answer.prediction), [_collapsed(reference) for reference in answer.references]
