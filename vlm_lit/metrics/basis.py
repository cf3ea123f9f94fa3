"""What a score rests on: how many references its questions have, and misses that are right but for their spelling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Final

from vlm_lit.vqa.normalize import ARTICLES, NUMBER_WORDS


@dataclass(frozen=True)
class ReferenceCounts:
    """How many references the judged questions have; `mean` is over the questions."""

    min: int
    mean: float
    max: int


@dataclass(frozen=True)
class NearMisses:
    """Answers that a metric scores 0, and how many of them differ from a reference in their spelling alone.

    `n` counts all misses. `case`, `full_stop` (a final one), `article` (a, an, the) and `number_word` (two for 2)
    count those that differ in this alone; `any_of_these` those that differ in one or several of them and nothing else.
    """

    n: int = 0
    case: int = 0
    full_stop: int = 0
    article: int = 0
    number_word: int = 0
    any_of_these: int = 0

    def as_text(self, metric: str) -> str:
        """One line that says so; empty where no miss is a near one."""
        if not self.any_of_these:
            return ""
        counts = asdict(self)
        kinds = ", ".join(f"{counts[kind]:,} in {words} alone" for kind, words in _IN_WORDS.items() if counts[kind])
        several = self.any_of_these - sum(counts[kind] for kind in _IN_WORDS)
        listed = ", ".join(filter(None, [kinds, f"{several:,} in several of these" if several else ""]))
        return (
            f"{self.any_of_these:,} of the {self.n:,} answers that {metric} scores 0 are a reference but for case, a "
            f"final full stop, an article or a number word: {listed}."
        )


_IN_WORDS: Final = {
    "case": "case",
    "full_stop": "a final full stop",
    "article": "an article",
    "number_word": "a number word",
}


def reference_counts(references: Iterable[Sequence[str]]) -> ReferenceCounts | None:
    """How many references questions have; None where there is no question with any."""
    counts = [len(found) for found in references if found]
    return ReferenceCounts(min(counts), sum(counts) / len(counts), max(counts)) if counts else None


def near_misses(judged: Iterable[tuple[str, Sequence[str], float | None]]) -> NearMisses:
    """The misses among judged answers, each an answer with its references and its score."""
    found = dict.fromkeys(asdict(NearMisses()), 0)
    for prediction, references, score in judged:
        if score is None or score > 0:
            continue
        found["n"] += 1
        for kind in _kinds(prediction, references):
            found[kind] += 1
    return NearMisses(**found)


def _kinds(prediction: str, references: Sequence[str]) -> list[str]:
    """The counts that a miss belongs to."""
    others = [reference for reference in references if reference.strip() != prediction.strip()]
    alone = [kind for kind, simplified in _WITHOUT.items() if _equal(prediction, others, [simplified])]
    any_of_these = alone or _equal(prediction, others, list(_WITHOUT.values()))
    return [*alone[:1], "any_of_these"] if any_of_these else []


def _equal(prediction: str, references: Sequence[str], ways: Sequence[Callable[[str], str]]) -> bool:
    said, *wanted = (_simplified(text, ways) for text in (prediction, *references))
    return bool(said) and said in wanted


def _simplified(text: str, ways: Sequence[Callable[[str], str]]) -> str:
    text = " ".join(text.split())
    for way in ways:
        text = way(text)
    return text


def _without_full_stop(text: str) -> str:
    return text.removesuffix(".").rstrip()


def _without_articles(text: str) -> str:
    return " ".join(word for word in text.split() if word.lower() not in ARTICLES)


def _with_digits(text: str) -> str:
    return " ".join(NUMBER_WORDS.get(word.lower(), word) for word in text.split())


_WITHOUT: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "case": str.lower,
        "full_stop": _without_full_stop,
        "article": _without_articles,
        "number_word": _with_digits,
    }
)
"""What makes a text the same as one that differs in this alone."""
