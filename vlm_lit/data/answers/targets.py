"""Soft targets of a classifier: how right each answer of its vocabulary is to a question that people answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.answers.vocabulary_building import answer_of
from vlm_lit.schema import Conversation
from vlm_lit.vqa.agreement import ENOUGH_MATCHES, agreement, compared_raw, vilt_agreement
from vlm_lit.vqa.normalize import one_line, vqa_normalise

SoftTargets = Literal["vilt", "vqa", "one_hot"]


def targets_of(
    references: Sequence[str], answer: str | None, vocabulary: AnswerVocabulary, kind: SoftTargets
) -> dict[int, float]:
    """The positions of the answers that are right, in part or wholly, with how right each is; none may be.

    - `vilt`: 0.3, 0.6, 0.9, 1.0 for an answer that one, two, three, four or more people gave. What people wrote is
      *not* normalised when it is looked up among the normalised answers, so `Red` counts for nothing. Source:
      dandelin/ViLT, `vilt/utils/write_vqa.py`, snapshot 762fd39.
    - `vqa`: what the official VQA accuracy gives each answer, normalisation included; see `vqa_score`. It compares
      references that are all the same as they are written.
    - `one_hot`: 1.0 for the record's own answer.

    Fewer than four references are not VQA v2, and one right answer is not 0.3 right: `vilt` and `vqa` give each of them
    1.0 then, normalised before it is looked up, as `vqa_accuracy[normalize=always]` scores it.

    Args:
        references: the answers that people gave, one per person, repeats included; none for `answer` alone.
        answer: the record's own answer; None where it has none.
        vocabulary: the N answers.
        kind: how right an answer is.
    """
    own = () if answer is None else (answer,)
    if kind == "one_hot":
        return _each_right(own, vocabulary)
    given = [one_line(text) for text in references or own]
    if kind == "vqa":
        return _officially_right(given, vocabulary)
    if len(given) <= ENOUGH_MATCHES:
        return _each_right(given, vocabulary)
    placed = [(vocabulary.index(text), count) for text, count in Counter(references).items()]
    return {place: vilt_agreement(count, len(given)) for place, count in placed if place is not None}


def _each_right(texts: Sequence[str], vocabulary: AnswerVocabulary) -> dict[int, float]:
    places = [vocabulary.index(vocabulary.spelled(text)) for text in texts]
    return {place: 1.0 for place in places if place is not None}


def _officially_right(given: Sequence[str], vocabulary: AnswerVocabulary) -> dict[int, float]:
    if len(given) > ENOUGH_MATCHES and compared_raw(given):
        place = vocabulary.index(given[0])
        return {} if place is None else {place: 1.0}
    counts = Counter(map(vqa_normalise, given))
    return {
        place: agreement(count, len(given))
        for text, count in counts.items()
        for place in vocabulary.alike.get(text, ())
    }


@dataclass(frozen=True)
class AnswerTargets:
    """What makes a record's targets.

    Args:
        vocabulary: the N answers.
        kind: how right an answer is, see `targets_of`.
    """

    vocabulary: AnswerVocabulary
    kind: SoftTargets

    @property
    def size(self) -> int:
        """N, the number of answers."""
        return len(self.vocabulary)

    def __call__(self, conversation: Conversation) -> dict[int, float]:
        """A record's targets by position; empty where all its answers are outside the vocabulary."""
        return targets_of(conversation.references, answer_of(conversation), self.vocabulary, self.kind)
