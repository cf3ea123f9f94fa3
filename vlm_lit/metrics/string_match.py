"""Exact match: whether an answer, as a string, is one of the accepted ones."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references

ARTICLES: Final = frozenset({"a", "an", "the"})
_DELETE_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def exact_match(
    prediction: str,
    references: Sequence[str],
    *,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
) -> float:
    """Returns 1.0 if the prediction equals any of the references, else 0.0.

    Without options every character counts, blanks at the ends included.

    Args:
        prediction: the model's answer.
        references: the accepted answers.
        ignore_case: compare lower-cased.
        ignore_punctuation: delete ASCII punctuation (`string.punctuation`), then take runs of blanks as one.
        ignore_articles: drop the words a, an, the in any case, then take runs of blanks as one.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("Exact match", references)

    def simplified(text: str) -> str:
        return _simplified(text, case=ignore_case, punctuation=ignore_punctuation, articles=ignore_articles)

    return float(simplified(prediction) in {simplified(reference) for reference in references})


def _simplified(text: str, *, case: bool, punctuation: bool, articles: bool) -> str:
    """Drops what is to be ignored. Punctuation goes before articles, so that `"the" cat` loses its article."""
    if case:
        text = text.lower()
    if punctuation:
        text = text.translate(_DELETE_PUNCTUATION)
    if articles:
        text = " ".join(word for word in text.split() if word.lower() not in ARTICLES)
    elif punctuation:
        text = " ".join(text.split())  # `a - b` leaves two blanks behind
    return text


@dataclass(frozen=True)
class ExactMatch(Rule):
    """The share of items whose answer equals one of its references, overall and per group.

    Args:
        ignore_case: see `exact_match`.
        ignore_punctuation: see `exact_match`.
        ignore_articles: see `exact_match`.
    """

    title: ClassVar[str] = "exact_match"

    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_articles: bool = False

    def counts(self, answer: Answer) -> Counts:
        """The item's `exact_match` under these options."""
        score = exact_match(
            answer.prediction,
            answer.references,
            ignore_case=self.ignore_case,
            ignore_punctuation=self.ignore_punctuation,
            ignore_articles=self.ignore_articles,
        )
        return (score,)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Without what is ignored, both."""
        first, *others = [
            _simplified(text, case=self.ignore_case, punctuation=self.ignore_punctuation, articles=self.ignore_articles)
            for text in (answer.prediction, *answer.references)
        ]
        return first, others
