"""Choice of pairs among the judged answers to one question: the best against the worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from vlm_lit.data.conversations.conversations import is_blank
from vlm_lit.errors import ConfigError
from vlm_lit.training.pairing.answers_file import SampledAnswer


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """Which pairs are made.

    Args:
        margin: least difference of the two scores; 0 takes any difference.
        pairs: most pairs of a question.
        length_ratio: most times as many tokens as the shorter one that the longer answer may have; None for any. With
            answers of unlike lengths a model learns to be long, or short, rather than right.

    Raises:
        ConfigError: a value is none that it can have.
    """

    margin: float = 0.0
    pairs: int = 1
    length_ratio: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise ConfigError(f"--margin is {self.margin}; scores are fractions, so it must be from 0 to 1.")
        if self.pairs < 1:
            raise ConfigError(f"--pairs_per_question is {self.pairs}; it must be at least 1.")
        if self.length_ratio is not None and not self.length_ratio >= 1:
            raise ConfigError(f"--length_ratio is {self.length_ratio}; it must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer:
    """A sampled answer, its tokens and its score: a fraction, or None where the metric leaves it out."""

    sampled: SampledAnswer
    tokens: int
    score: float | None

    @property
    def text(self) -> str:
        """What was said."""
        return self.sampled.answer


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """Two answers to one question of which one is better."""

    chosen: JudgedAnswer
    rejected: JudgedAnswer


@dataclass(frozen=True)
class ChosenPairs:
    """The pairs of a question, or in a word why there is none.

    `without` is `answers` where fewer than two can be used, `tie` where all of them score the same, `margin` and
    `length` where no two differ enough, or are as long as each other as is asked for.
    """

    pairs: Sequence[AnswerPair]
    without: str = ""


def unusable(answer: JudgedAnswer) -> str:
    """Why an answer can stand in no pair: it is `cut`, `blank` or `unjudged`; empty where it can."""
    if answer.sampled.unfinished:
        return "cut"  # its end would be learned as an end of turn
    if is_blank(answer.text):
        return "blank"
    return "unjudged" if answer.score is None else ""


def chosen_pairs(answers: Sequence[JudgedAnswer], settings: PairSettings, *, higher_is_better: bool) -> ChosenPairs:
    """The pairs of a question.

    The two whose scores differ most come first; among equals those of the most alike lengths, then those drawn first.
    An answer that was drawn several times counts once, and stands in one pair at most.
    """
    distinct: dict[str, JudgedAnswer] = {}
    for answer in answers:
        if not unusable(answer):
            distinct.setdefault(answer.text, answer)
    if len(distinct) < 2:
        return ChosenPairs((), "answers")
    better = 1.0 if higher_is_better else -1.0
    gaps = [
        (better * ((one.score or 0.0) - (other.score or 0.0)), AnswerPair(chosen=one, rejected=other))
        for one, other in permutations(distinct.values(), 2)
    ]
    differing = [found for found in gaps if found[0] > 0]
    # Sums of decimal fractions: a difference of 0.3 may come out as 0.29999999999999993.
    enough = [found for found in differing if found[0] >= settings.margin - 1e-9]
    alike = [found for found in enough if _alike(found[1], settings.length_ratio)]
    for left, reason in ((differing, "tie"), (enough, "margin"), (alike, "length")):
        if not left:
            return ChosenPairs((), reason)
    alike.sort(key=lambda found: (-found[0], _apart(found[1])))
    return ChosenPairs(list(_each_answer_once([pair for _, pair in alike], settings.pairs)))


def _alike(pair: AnswerPair, ratio: float | None) -> bool:
    shorter, longer = sorted((pair.chosen.tokens, pair.rejected.tokens))
    return ratio is None or longer <= ratio * shorter


def _apart(pair: AnswerPair) -> int:
    return abs(pair.chosen.tokens - pair.rejected.tokens)


def _each_answer_once(pairs: Sequence[AnswerPair], most: int) -> Iterator[AnswerPair]:
    used = Counter[str]()
    for pair in pairs:
        if most and not used[pair.chosen.text] and not used[pair.rejected.text]:
            used.update((pair.chosen.text, pair.rejected.text))
            most -= 1
            yield pair
