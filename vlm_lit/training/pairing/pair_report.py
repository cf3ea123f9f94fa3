"""What is said of pairs that were made: how many there are, why there are no more, and how their sides differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from vlm_lit.training.pairing.choosing import AnswerPair, ChosenPairs, JudgedAnswer, unusable

_WITHOUT: Final[Mapping[str, str]] = {
    "tie": "all answers score the same",
    "margin": "scores differ by less than --margin",
    "length": "lengths differ by more than --length_ratio",
    "answers": "fewer than two different answers that can be used",
}
_UNUSABLE: Final[Mapping[str, str]] = {
    "cut": "cut by the limit of tokens",
    "blank": "empty",
    "unjudged": "left out by the metric",
}


@dataclass
class PairReport:
    """The counts of a file of pairs, and the pairs themselves."""

    prompts: int = 0
    answers: list[JudgedAnswer] = field(default_factory=list)
    pairs: list[AnswerPair] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)

    def add(self, answers: Sequence[JudgedAnswer], chosen: ChosenPairs) -> None:
        """Count a question."""
        self.prompts += 1
        self.answers += answers
        self.pairs += chosen.pairs
        if chosen.without:
            self.without[chosen.without] += 1

    def lines(self, metric: str) -> list[str]:
        """The report, for a terminal."""
        scores = [answer.score for answer in self.answers if answer.score is not None]
        mean = f", {metric} {fmean(scores):.3f} on average" if scores else ""
        rows = [("prompts", f"{self.prompts:,}"), ("answers", f"{len(self.answers):,}{mean}")]
        out = Counter(filter(None, map(unusable, self.answers)))
        rows += [("  not used", f"{out[kind]:,} {words}") for kind, words in _UNUSABLE.items() if out[kind]]
        rows.append(("pairs", f"{len(self.pairs):,}"))
        rows += [
            ("  ties" if kind == "tie" else "  no pair", f"{self.without[kind]:,} prompts: {words}")
            for kind, words in _WITHOUT.items()
            if self.without[kind] or kind == "tie"
        ]
        if self.pairs:
            rows += self._sides(metric)
        return [f"{name:<12}{words}" for name, words in rows]

    def _sides(self, metric: str) -> list[tuple[str, str]]:
        sides = {name: [getattr(pair, name) for pair in self.pairs] for name in ("chosen", "rejected")}
        return [
            (name, f"{metric} {fmean(a.score for a in answers):.3f}, {fmean(a.tokens for a in answers):.1f} tokens")
            for name, answers in sides.items()
        ]
