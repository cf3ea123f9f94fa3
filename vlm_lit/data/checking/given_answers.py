"""Answers of all records of a data set, read ahead of a run: what a vocabulary is built from and covers."""

from __future__ import annotations

from typing import NamedTuple

from vlm_lit.data.answers.vocabulary_building import answer_of
from vlm_lit.data.checking.in_processes import mapped
from vlm_lit.data.records.conversation_dataset import ConversationDataset


class GivenAnswers(NamedTuple):
    """What a record says is right.

    Args:
        answer: the one that it is trained on; None where nobody answered.
        references: the answers that people gave, one per person.
    """

    answer: str | None
    references: tuple[str, ...]


def given_answers(dataset: ConversationDataset) -> list[GivenAnswers]:
    """Each record's answers, in order, read in several processes where there are many. No image is decoded."""
    return [given for found in mapped(_Reader(dataset), len(dataset), what="answers") for given in found]


class _Reader:
    def __init__(self, dataset: ConversationDataset) -> None:
        self.dataset = dataset

    def __call__(self, rows: range) -> list[GivenAnswers]:
        conversations = [self.dataset[i] for i in rows]
        return [GivenAnswers(answer_of(conversation), conversation.references) for conversation in conversations]
