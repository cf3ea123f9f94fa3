"""Replies in the making: the answers that are generated to several batches of prompts, those that end first first."""

from __future__ import annotations

from typing import Final

from vlm_lit.models.attention import readable_once
from vlm_lit.models.finite import NonFiniteScoresError
from vlm_lit.models.generation import without_adapter_shell
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.schema import Conversation, PromptBatch, Reply
from vlm_lit.training.answering import Answering

LONG: Final = 32
"""Tokens from which on answers may differ in length by enough for others to take the place of those that ended."""


class RunningReplies:
    """Replies to prompts that are read once.

    Args:
        answering: makes them.
        max_new_tokens: longest answer, in tokens.
    """

    def __init__(self, answering: Answering, max_new_tokens: int) -> None:
        self.answering, self.max_new_tokens = answering, max_new_tokens
        self._asked: dict[int, Conversation] = {}
        self._answers: RunningAnswers | None = None

    def takes(self, batch: PromptBatch) -> bool:
        """Whether the prompts of a batch are read once, so that their replies can be made beside others'."""
        answering = self.answering
        return batch.segments is not None or readable_once(without_adapter_shell(answering.model), answering.family)

    def add(self, batch: PromptBatch) -> list[int]:
        """Read a batch of prompts; each gets a number of its own."""
        if self._answers is None:
            self._answers = self._begun()
        self._answers.add(self.answering.inputs(batch), batch.segments, self.answering.sampler(batch))
        numbers = range(self._answers.count - len(batch.conversations), self._answers.count)
        self._asked |= dict(zip(numbers, batch.conversations, strict=True))
        return list(numbers)

    def run(self, until: int) -> list[tuple[int, Conversation, Reply]]:
        """Go on until at most so many prompts have no reply; the others' numbers, conversations and replies.

        Raises:
            VlmLitError: the model's scores for some are no numbers; names them.
        """
        if self._answers is None:
            return []
        try:
            ended = self._answers.run(until)
        except NonFiniteScoresError as error:
            raise error.naming(self._asked[number].id for number in error.rows) from error
        return [
            (number, self._asked.pop(number), self.answering.reply(said, self.max_new_tokens)) for number, said in ended
        ]

    def drop(self) -> None:
        """Forget all that have no reply."""
        self._asked, self._answers = {}, None

    def _begun(self) -> RunningAnswers:
        answering = self.answering
        return RunningAnswers(
            answering.model,
            answering.family,
            max_new_tokens=self.max_new_tokens,
            stop=answering.stop,
            grammar=answering.grammar,
        )
