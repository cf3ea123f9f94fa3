"""Data set of preferences, and the way that a source of them is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from vlm_lit.data.conversations.preference_forms import is_pair
from vlm_lit.data.conversations.preferences import to_preference
from vlm_lit.data.conversations.record_keys import without_ignored
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.data.records.conversation_reading import ConversationReading, conversation_reading
from vlm_lit.data.records.examining import check_weights, examine
from vlm_lit.data.records.image_tables import ImageTable
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.records.sources import SourceSettings, name_of, read_source, stream_source
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Preference, Record


@dataclass(frozen=True, kw_only=True)
class PreferenceReading:
    """How one source's records become preferences: `sides` says what of its settings their two sides are read by.

    `requires_answer` says that it is trained on; both sides have answers in any case.
    """

    sides: ConversationReading
    requires_answer: bool

    def __call__(self, record: Record) -> Preference:
        """The preference of a record.

        Raises:
            RecordError: the record cannot be used whole.
        """
        record = self.sides.joined(record)
        return to_preference(record, **self.sides.options(record))

    @property
    def source(self) -> SourceSettings:
        """The source's settings."""
        return self.sides.source

    @property
    def images(self) -> ImageTable | None:
        """The table that holds the records' images."""
        return self.sides.images

    @property
    def prompt(self) -> str | None:
        """Template of a question."""
        return self.sides.prompt

    @property
    def system(self) -> str | None:
        """System message of records that bring none."""
        return self.sides.system


class PicturedReading(PreferenceReading):
    """The same of records that must show a picture."""

    def __call__(self, record: Record) -> Preference:
        """The preference of a record.

        Raises:
            RecordError: the record cannot be used whole, or shows no picture.
        """
        preference = super().__call__(record)
        check_pictured(preference)
        return preference


class PromptReading(PreferenceReading):
    """How records of pairs become conversations to answer: their prompts, each behind it the chosen answer."""

    def __call__(self, record: Record) -> Conversation:  # type: ignore[override] # of another item
        """The chosen conversation of a record.

        Raises:
            RecordError: the record cannot be used whole.
        """
        return super().__call__(record).chosen


def check_pictured(preference: Preference) -> None:
    """Refuse a preference without a picture.

    Raises:
        RecordError: it shows none.
    """
    if not preference.images:
        raise RecordError(
            "the pair shows no picture, so none can be corrupted",
            remedy="Give it an image, leave it out, or train without image_sigmoid and data.init_args.corrupt.",
            file=preference.file,
            record=preference.record,
            code="preference.no_image",
        )


class PreferenceDataset(RecordDataset[Preference]):
    """Preferences by index, made from their records when asked for."""

    def __init__(self, records: Sequence[Record], reading: PreferenceReading) -> None:
        super().__init__(records, reading, name=name_of(reading.source))
        self.reading = reading
        self.answers: list[int] = []
        """How many turns of each are a user's, once every record has been looked at."""


CheckedDataset: TypeAlias = ConversationDataset | PreferenceDataset
"""A data set whose records are gone through before a run starts."""


def holds_pairs(source: SourceSettings) -> bool:
    """Whether the first record of a source is a pair of answers."""
    first = next(iter(stream_source(replace(source, limit=1, weights=None))), None)
    return first is not None and is_pair(without_ignored(first, source.ignore_keys or ()))


def open_preferences(
    source: SourceSettings,
    *,
    prompt: str | None,
    system: str | None,
    training: bool,
    check_images: bool,
    check: Callable[[PreferenceDataset], None] | None = None,
    pictured: bool = False,
) -> PreferenceDataset | StreamedSteps[Preference]:
    """Open a source and check every record of it that is at hand before training starts, by `check` where it is given.

    `pictured` says that each must show a picture.

    Raises:
        RecordError: a record or image that cannot be used, named with its file and a remedy.
    """
    sides = conversation_reading(source, prompt=prompt, system=system, requires_answer=True)
    reading = (PicturedReading if pictured else PreferenceReading)(sides=sides, requires_answer=training)
    check_weights(source, training=training)
    if source.streaming:
        return StreamedSteps(partial(stream_source, source), reading, name=name_of(source))
    dataset = PreferenceDataset(read_source(source), reading)
    examine(dataset, source, training=training, images=check_images, check=check)
    return dataset


def open_prompts(
    source: SourceSettings,
    *,
    prompt: str | None,
    system: str | None,
    check_images: bool,
    check: Callable[[ConversationDataset], None] | None = None,
) -> ConversationDataset:
    """Open the prompts of a source of pairs, and check every record of it.

    Raises:
        RecordError: a record or image that cannot be used, named with its file and a remedy.
    """
    sides = conversation_reading(source, prompt=prompt, system=system, requires_answer=True)
    reading: Any = PromptReading(sides=sides, requires_answer=False)
    check_weights(source, training=False)
    dataset = ConversationDataset(read_source(source), reading)
    examine(dataset, source, training=False, images=check_images, check=check)
    return dataset
