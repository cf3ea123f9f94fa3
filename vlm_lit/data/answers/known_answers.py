"""Questions of an evaluation, each marked by whether a vocabulary holds an answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vlm_lit.data.answers.judged_turns import TurnItems
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.schema import Conversation

GROUP: Final = "vocabulary"
"""The breakdown that scores get: questions with an answer `inside`, and those whose answers are all `outside`."""


class KnownAnswers(TurnItems):
    """What an evaluation asks, with the breakdown `vocabulary` for scores.

    A question whose answers are all outside cannot be answered rightly. It is asked and counts 0 all the same; scores
    published for ViLT leave such questions out, which is the breakdown's `inside`.

    Args:
        conversations: the data set.
        known: whether any of a conversation's references is an answer of the vocabulary.
    """

    def __init__(self, conversations: ConversationDataset, known: Callable[[Conversation], bool]) -> None:
        super().__init__(conversations, "every")
        self.known = known

    def __getitem__(self, index: int) -> Conversation:
        conversation = super().__getitem__(index)
        if not conversation.references:
            return conversation
        place = "inside" if self.known(conversation) else "outside"
        return replace(conversation, groups={**conversation.groups, GROUP: place})
