"""ROUGE-L, but not COCO's: the longest common subsequence of words of a text and its reference.

With `tokenizer: official` the value of torchmetrics' `ROUGEScore` (rougeL, F-measure, best reference, no stemmer), to
rounding; its words are runs of ASCII letters and digits, so that texts in other scripts score 0. COCO's caption
evaluation weighs recall with beta 1.2 and takes the best precision and the best recall of different references, so
that the two are different quantities; the reported name says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references
from vlm_lit.metrics.words import Tokenizer, unicode_words

_NOT_A_WORD: Final = re.compile(r"[^a-z0-9]+")


def rouge_l_f1(prediction: str, references: Sequence[str], tokenizer: Tokenizer = "unicode") -> float:
    """Returns the largest F1 of the longest common subsequence of words over the references, in [0, 1].

    Args:
        prediction: the model's answer.
        references: the accepted answers.
        tokenizer: `unicode` takes words as `metrics.words.unicode_words` does; `official` takes runs of ASCII letters
            and digits, in lower case.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("ROUGE-L", references)
    words_of = unicode_words if tokenizer == "unicode" else _ascii_words
    words = words_of(prediction)
    return max(_f1(words, words_of(reference)) for reference in references)


def _ascii_words(text: str) -> list[str]:
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def _f1(words: Sequence[str], target: Sequence[str]) -> float:
    # 2PR / (P + R) with P = common / len(words) and R = common / len(target).
    both = len(words) + len(target)
    return 2 * longest_common(words, target) / both if both else 0.0


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of words in the longest sequence that both have in this order, gaps allowed."""
    above = [0] * (len(b) + 1)
    for word in a:
        row = [0]
        for j, other in enumerate(b, 1):
            row.append(above[j - 1] + 1 if word == other else max(above[j], row[j - 1]))
        above = row
    return above[-1]


@dataclass(frozen=True)
class RougeL(Rule):
    """The mean of `rouge_l_f1`, overall and per group. Not COCO's ROUGE-L: see the module.

    Args:
        tokenizer: what a word is: `unicode` for any script, or `official`.
    """

    title: ClassVar[str] = "rouge_l"

    tokenizer: Tokenizer = "unicode"

    @property
    def name(self) -> str:
        """What reports call it."""
        return "rouge_l[f1,not_coco]" if self.tokenizer == "official" else "rouge_l[f1,not_coco,unicode_words]"

    def counts(self, answer: Answer) -> Counts:
        """The item's `rouge_l_f1`."""
        return (rouge_l_f1(answer.prediction, answer.references, self.tokenizer),)
