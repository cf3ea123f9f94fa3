"""BLEU over a corpus: the word sequences that a text shares with its references.

The value of torchmetrics' `BLEUScore` on the same texts, to rounding, from counts that can be kept per item. Words are
what blanks separate, and each letter of a script without blanks (`tokenizer: official` leaves those together, as
torchmetrics does); published caption scores are of PTB tokens and are not comparable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vlm_lit.errors import ConfigError
from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references
from vlm_lit.metrics.words import Tokenizer, unicode_tokens

LONGEST: Final = 4
"""Words in the longest sequence there are counts for."""


def bleu_counts(prediction: str, references: Sequence[str], tokenizer: Tokenizer = "unicode") -> Counts:
    """What a text adds to a corpus' BLEU.

    Args:
        prediction: the model's answer.
        references: the accepted answers.
        tokenizer: `unicode` takes words as `metrics.words.unicode_tokens` does; `official` splits at blanks alone.

    Returns:
        the sequences of 1 to 4 words that a reference has as well, those there are, and the words of the prediction
        and of the reference nearest in length: ten whole numbers.
    """
    words_of = unicode_tokens if tokenizer == "unicode" else str.split
    words, others = words_of(prediction), [words_of(reference) for reference in references]
    nearest = min((len(other) for other in others), key=lambda length: abs(length - len(words)))
    shared = [_shared(words, others, n) for n in range(1, LONGEST + 1)]
    there = [max(0, len(words) - n + 1) for n in range(1, LONGEST + 1)]
    return tuple(map(float, (*shared, *there, len(words), nearest)))


def _shared(words: Sequence[str], others: Sequence[Sequence[str]], n: int) -> int:
    """A sequence counts as often as it occurs, but no more than in the reference that has it most often."""
    most: Counter[tuple[str, ...]] = Counter()
    for other in others:
        most |= _sequences(other, n)
    return (_sequences(words, n) & most).total()


def _sequences(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


@dataclass(frozen=True)
class BLEU(Rule):
    """Corpus BLEU, overall and per group. It is not the mean of the items' scores, each of which is a BLEU of its own.

    Args:
        n_gram: words in the longest sequence that counts, 1 to 4; shorter answers than that score 0.
        tokenizer: what a word is: `unicode` for any script, or `official`.

    Raises:
        ConfigError: n_gram is out of range.
    """

    title: ClassVar[str] = "bleu"
    columns: ClassVar[int] = 2 * LONGEST + 2

    n_gram: int = LONGEST
    tokenizer: Tokenizer = "unicode"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_gram <= LONGEST:
            raise ConfigError(f"bleu: n_gram is {self.n_gram}; it must be 1 to {LONGEST}.")

    @property
    def name(self) -> str:
        """What reports call it; it says what the words are."""
        words = "whitespace" if self.tokenizer == "official" else "unicode"
        return f"bleu[n_gram={self.n_gram},{words}_tokens]"

    def counts(self, answer: Answer) -> Counts:
        """The item's `bleu_counts`."""
        need_references("BLEU", answer.references)
        return bleu_counts(answer.prediction, answer.references, self.tokenizer)

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """BLEU of all items as one corpus."""
        shared, there = sums[: self.n_gram], sums[LONGEST : LONGEST + self.n_gram]
        words, nearest = sums[-2:]
        if min(shared) == 0:
            return {"overall": 0.0}
        precision = math.exp(math.fsum(math.log(s / t) for s, t in zip(shared, there, strict=True)) / self.n_gram)
        return {"overall": precision * (1.0 if words > nearest else math.exp(1 - nearest / words))}
