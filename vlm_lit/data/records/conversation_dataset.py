"""Data set of conversations, and the way that a source of them is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from vlm_lit.data.conversations.conversations import has_own_turns
from vlm_lit.data.records.conversation_reading import ConversationReading, conversation_reading
from vlm_lit.data.records.examining import check_weights, examine
from vlm_lit.data.records.record_dataset import Item, RecordDataset
from vlm_lit.data.records.sources import SourceSettings, name_of, read_source, stream_source
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.schema import Conversation, Record


class ConversationDataset(RecordDataset[Conversation]):
    """Conversations by index, made from their records when asked for."""

    def __init__(self, records: Sequence[Record], reading: ConversationReading) -> None:
        super().__init__(records, reading, name=name_of(reading.source))
        self.reading = reading
        self._answers: list[int] | None = None

    @property
    def answers(self) -> list[int]:
        """How many answers each conversation has or asks for."""
        if self._answers is None:
            # Reading a table means reading its images' bytes; a row without turns of its own has one answer.
            several = len(self) > 0 and has_own_turns(self.records[0], self.reading.prompt)
            self._answers = [_answers(self[i]) if several else 1 for i in range(len(self))]
        return self._answers

    @answers.setter
    def answers(self, known: list[int]) -> None:
        self._answers = known

    def keep(self, kept: Sequence[int]) -> None:
        """See `RecordDataset`; the counts of answers go with their conversations."""
        self._answers = None if self._answers is None else [self._answers[i] for i in kept]
        super().keep(kept)

    def looked_at(self, items: Iterable[Conversation]) -> Iterator[Conversation]:
        """See `RecordDataset`; answers are counted as well."""
        answers = list[int]()
        for conversation in super().looked_at(items):
            answers.append(_answers(conversation))
            yield conversation
        self._answers = answers


def _answers(conversation: Conversation) -> int:
    return sum(turn.role == "user" for turn in conversation.turns)


def most_images(source: RecordDataset[Item] | StreamedSteps[Item]) -> int:
    """How many images an item of a source has at most, as far as that is known; else as many as its first."""
    if isinstance(source, StreamedSteps):
        return 1
    if source.most_images is None:
        return len(source[0].images) if len(source) else 1
    return source.most_images


def open_source(
    source: SourceSettings,
    *,
    prompt: str | None,
    system: str | None,
    requires_answer: bool,
    check_images: bool,
    check: Callable[[ConversationDataset], None] | None = None,
) -> ConversationDataset | StreamedSteps[Conversation]:
    """Open a source and check every record of it that is at hand before training starts, by `check` where it is given.

    Raises:
        RecordError: a record or image that cannot be used, named with its file and a remedy.
    """
    reading = conversation_reading(source, prompt=prompt, system=system, requires_answer=requires_answer)
    check_weights(source, training=requires_answer)
    if source.streaming:
        return StreamedSteps(partial(stream_source, source), reading, name=name_of(source))
    dataset = ConversationDataset(read_source(source), reading)
    examine(dataset, source, training=requires_answer, images=check_images, check=check)
    return dataset
