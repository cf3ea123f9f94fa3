"""Over-length policies: what is done with a conversation of more than `max_length` tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from PIL import Image

from vlm_lit.data.rows.encoding import ConversationEncoder
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Part

OverLength = Literal["error", "drop", "trim_text", "shrink_image"]

TOO_LONG = "conversation.too_long"
"""Reason of a record that has more than `max_length` tokens."""

_SHRINK = 0.8
_SMALLEST_SIDE = 16


class OverLengthPolicy:
    """Fits one conversation into `max_length` tokens.

    Args:
        encoder: measures lengths.
        max_length: most tokens a conversation may have, image tokens included; null for no limit.
        policy: `error` stops; `drop` leaves the conversation out; `trim_text` shortens the longest user text from its
            end (answers and images stay whole); `shrink_image` makes the images smaller until they fit.
    """

    def __init__(self, encoder: ConversationEncoder, max_length: int | None, policy: OverLength) -> None:
        self.encoder, self.max_length, self.policy = encoder, max_length, policy

    def fits(self, conversation: Conversation, images: Sequence[Image.Image], *, for_generation: bool) -> bool:
        """Whether the conversation has at most `max_length` tokens."""
        return self.max_length is None or self._length(conversation, images, for_generation) <= self.max_length

    def _length(self, conversation: Conversation, images: Sequence[Image.Image], for_generation: bool) -> int:
        batch = self.encoder.encode([conversation], [images], side="right", for_generation=for_generation)
        return int(batch.inputs["input_ids"].shape[1])

    def apply(
        self, conversation: Conversation, images: list[Image.Image], *, for_generation: bool = False
    ) -> tuple[Conversation, list[Image.Image]] | None:
        """The conversation as it fits, or None where it is dropped.

        Raises:
            RecordError: the policy is `error`, or nothing is left to trim or shrink.
        """
        if self.policy == "drop":
            return None
        if self.policy == "trim_text":
            return self._trim(conversation, images, for_generation), images
        if self.policy == "shrink_image":
            return conversation, self._shrink(conversation, images, for_generation)
        raise self._error(
            conversation, images, for_generation, "Raise max_length, or set over_length to another policy"
        )

    def apply_to_unit(
        self, unit: Sequence[Conversation], longest: int, images: list[Image.Image]
    ) -> tuple[list[Conversation], list[Image.Image]] | None:
        """Conversations that are never parted, as they fit, or None where they are dropped: all of them or none.

        The longest decides what the user's turns keep and how large the images are, and the others follow it.

        Args:
            unit: conversations that show the same images behind the same turns.
            longest: which of them has most tokens.
            images: their images.

        Raises:
            RecordError: the policy is `error`, or nothing is left to trim or shrink.
        """
        result = self.apply(unit[longest], images)
        if result is None:
            return None
        fitted, kept = result
        return [fitted if k == longest else _asked_as(fitted, one) for k, one in enumerate(unit)], kept

    def _trim(self, conversation: Conversation, images: list[Image.Image], for_generation: bool) -> Conversation:
        longest = max(
            (k for k, turn in enumerate(conversation.turns) if turn.role == "user"),
            key=lambda k: len(conversation.turns[k].text),
        )
        words = len(conversation.turns[longest].text.split())
        low, high = 0, words - 1  # how many words may stay; found by bisection since each look costs a tokenization
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.fits(_keep_words(conversation, longest, middle), images, for_generation=for_generation)
            low, high = (middle, high) if fits else (low, middle - 1)
        trimmed = _keep_words(conversation, longest, low)
        if low == 0 or not self.fits(trimmed, images, for_generation=for_generation):
            raise self._error(conversation, images, for_generation, "Trimming the longest question is not enough")
        return trimmed

    def _shrink(self, conversation: Conversation, images: list[Image.Image], for_generation: bool) -> list[Image.Image]:
        before = self._length(conversation, images, for_generation)
        while min(min(image.size) for image in images) * _SHRINK >= _SMALLEST_SIDE if images else False:
            images = [image.resize((round(image.width * _SHRINK), round(image.height * _SHRINK))) for image in images]
            if self.fits(conversation, images, for_generation=for_generation):
                return images
        after = self._length(conversation, images, for_generation)
        fixed = ", since this processor gives every image the same number of tokens" if after == before else ""
        raise self._error(conversation, images, for_generation, f"Shrinking its images does not help{fixed}")

    def _error(
        self, conversation: Conversation, images: Sequence[Image.Image], for_generation: bool, remedy: str
    ) -> RecordError:
        length = self._length(conversation, images, for_generation)
        return RecordError(
            f"the conversation has {length} tokens and max_length is {self.max_length}",
            remedy=f"{remedy} (over_length: error, drop, trim_text or shrink_image).",
            file=conversation.file,
            record=conversation.record,
            code=TOO_LONG,
        )


def _asked_as(fitted: Conversation, other: Conversation) -> Conversation:
    """A conversation with the user's turns of another one."""
    turns = tuple(
        theirs if theirs.role == "user" else own for theirs, own in zip(fitted.turns, other.turns, strict=True)
    )
    return replace(other, turns=turns)


def _keep_words(conversation: Conversation, k: int, words: int) -> Conversation:
    """The conversation with only the first `words` words of turn `k`'s text; its images stay."""
    turn, left = conversation.turns[k], words
    content: list[Part] = []
    for part in turn.content:
        if isinstance(part, str):
            kept = part.split()[:left]
            left -= len(kept)
            content.append(" ".join(kept))
        else:
            content.append(part)
    turns = (*conversation.turns[:k], replace(turn, content=tuple(content)), *conversation.turns[k + 1 :])
    return replace(conversation, turns=turns)
