"""Coverage of questions by an answer vocabulary, and the ceiling that it puts on accuracy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vlm_lit.data.answers.targets import targets_of
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.vqa.normalize import one_line, vqa_normalise

_NAMED: Final = 10
"""Answers outside the vocabulary that are kept; a sentence names the first few."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many of a part's questions a vocabulary can answer, and how well at best.

    Args:
        answers: N, the answers of the vocabulary.
        questions: those that have a reference.
        answerable: those with a reference in the vocabulary, both normalised.
        ceiling: the best VQA accuracy that any choice of answers reaches over all these questions, a fraction;
            None without a question. With one reference a question it is the share of those that are inside.
        written_otherwise: answerable questions to which the official accuracy gives every answer 0, since their
            references are all the same, are compared as written, and are written otherwise in the vocabulary.
        outside: the most common answers of the questions that are not answerable, normalised, with their counts.
        blank: whether one of the vocabulary's answers is empty.
    """

    answers: int
    questions: int
    answerable: int
    ceiling: float | None
    written_otherwise: int
    outside: tuple[tuple[str, int], ...]
    blank: bool

    @property
    def words(self) -> str:
        """The sentences that a run prints."""
        if self.ceiling is None:
            return f"{self.answers:,} answers; no question here has a reference answer to cover."
        said = [
            f"{self.answers:,} answers cover {self.answerable:,} of {self.questions:,} questions "
            f"({self.answerable / self.questions:.1%}); VQA accuracy can reach {self.ceiling:.1%} at most."
        ]
        if self.outside:
            named = ", ".join(f"{answer!r} ({count})" for answer, count in self.outside[:5])
            said.append(f"The most common answers outside: {named}.")
        if self.written_otherwise:
            said.append(
                f"{self.written_otherwise:,} questions have one answer from everybody, written otherwise than in the "
                "vocabulary: the official VQA accuracy compares those as written and gives 0."
            )
        if self.blank:
            said.append(
                "One answer is empty: 'a', 'an' and 'the' are nothing when normalised. Where letters are answers, "
                "build the vocabulary with normalize: none."
            )
        return " ".join(said)


def coverage(vocabulary: AnswerVocabulary, references: Iterable[Sequence[str]]) -> Coverage:
    """What a vocabulary can answer of some questions.

    Args:
        vocabulary: the answers.
        references: for each question the answers that people gave; a question without any is not counted.
    """
    scores: list[float] = []
    answerable = reached = 0
    outside = Counter[str]()
    for given in references:
        if not given:
            continue
        best = max(targets_of(given, None, vocabulary, "vqa").values(), default=0.0)
        normal = Counter(vqa_normalise(one_line(text)) for text in given)
        scores.append(best)
        reached += best > 0
        if vocabulary.alike.keys() & normal:
            answerable += 1
        else:
            outside[normal.most_common(1)[0][0]] += 1
    return Coverage(
        answers=len(vocabulary),
        questions=len(scores),
        answerable=answerable,
        ceiling=math.fsum(scores) / len(scores) if scores else None,
        written_otherwise=answerable - reached,
        outside=tuple(outside.most_common(_NAMED)),
        blank="" in vocabulary.answers,
    )
