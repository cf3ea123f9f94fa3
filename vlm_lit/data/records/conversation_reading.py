"""Reading of conversations: how one source's records become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlm_lit.data.conversations.choices import choices_of, with_lettered_choices
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.records.annotations import Annotations
from vlm_lit.data.records.image_names import image_name_fields, with_named_image
from vlm_lit.data.records.image_tables import ImageTable
from vlm_lit.data.records.sources import SourceSettings, name_of
from vlm_lit.data.records.written_lists import unread_lists, with_lists
from vlm_lit.schema import Conversation, Record


@dataclass(frozen=True, kw_only=True)
class ConversationReading:
    """How one source's records become conversations."""

    source: SourceSettings
    prompt: str | None
    system: str | None
    requires_answer: bool
    images: ImageTable | None
    answers: Annotations | None = None
    image_name: str | None = None

    def __call__(self, record: Record) -> Conversation:
        """The conversation of a record.

        Raises:
            RecordError: the record cannot be used whole.
        """
        record = self.joined(record)
        found = to_conversation(record, requires_answer=self.requires_answer, **self.options(record))
        unread = () if "answers" in (self.source.ignore_keys or ()) else unread_lists(record)
        return replace(found, notes=(*found.notes, *unread))

    def joined(self, record: Record) -> Record:
        """The record with what stands elsewhere: its answers, its image, its options as a list.

        Raises:
            RecordError: there is no such thing for it.
        """
        if self.answers is not None:
            record = self.answers.with_answers(record)
        if self.image_name is not None:
            record = with_named_image(record, self.image_name)
        record = with_lettered_choices(with_lists(record, self.source.lists or ()))
        return record if self.images is None else self.images.with_image(record)

    def options(self, record: Record) -> dict[str, Any]:
        """What of the settings says how a joined record is read: arguments of `to_conversation`."""
        other = self.source.prompt_without_choices
        return {
            "prompt": self.prompt if other is None or choices_of(record) else other,
            "system": self.system,
            "group_fields": self.source.group_fields or (),
            "ignore_keys": self.source.ignore_keys or (),
            "known_keys": self.known_keys,
            "placeholders": self.source.placeholders,
        }

    @property
    def known_keys(self) -> Sequence[str]:
        """Keys that the settings name: they are as the user wants them."""
        source = self.source
        table = [source.images_from.image_key] if source.images_from is not None else []
        named = image_name_fields(self.image_name) if self.image_name is not None else ()
        return [*(source.columns or ()), *(source.lists or ()), *table, *named]


def conversation_reading(
    source: SourceSettings, *, prompt: str | None, system: str | None, requires_answer: bool
) -> ConversationReading:
    """The reading of one source, with the tables of images and of answers that it names.

    Raises:
        ConfigError, RecordError: one of these tables cannot be used.
    """
    images = ImageTable(source.images_from) if source.images_from is not None else None
    answers, image_name = _joined(source)
    return ConversationReading(
        source=source,
        prompt=prompt,
        system=system,
        requires_answer=requires_answer,
        images=images,
        answers=answers,
        image_name=image_name,
    )


def _joined(source: SourceSettings) -> tuple[Annotations | None, str | None]:
    """The answers that stand in another file, and how images are called."""
    if source.image_name is not None:
        image_name_fields(source.image_name)
    if source.annotations is None:
        return None, source.image_name
    answers = Annotations(Path(source.annotations).expanduser())
    first = Path(name_of(source)).parent
    root = Path(source.image_root) if source.image_root is not None else first
    return answers, source.image_name or answers.image_name(root)
