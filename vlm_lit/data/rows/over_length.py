"""Over-length policies: what is done with a conversation of more than `max_length` tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

from PIL import Image

from vlm_lit.data.checkpoint.image_tokens import ImageTokens, image_tokens_of
from vlm_lit.data.images.images import check_images, load_images
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.shrinking import SMALLEST_SIDE, STEP, fitting_sizes
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Part

OverLength = Literal["error", "drop", "trim_text", "shrink_image"]

TOO_LONG = "conversation.too_long"
"""Reason of a record that has more than `max_length` tokens."""

_DOT = (32, 32)
_WORD = re.compile(r"\S+")


class OverLengthPolicy:
    """Fits one conversation into `max_length` tokens.

    Args:
        encoder: measures lengths.
        max_length: most tokens a conversation may have, image tokens included; null for no limit.
        policy: `error` stops; `drop` leaves the conversation out; `trim_text` shortens the longest user text from its
            end (answers and images stay whole); `shrink_image` makes the images smaller until they fit.
        shared: most tokens of a row that conversations share which are no longer than this themselves; null for as many
            as a conversation may have.
    """

    def __init__(
        self, encoder: ConversationEncoder, max_length: int | None, policy: OverLength, shared: int | None = None
    ) -> None:
        self.encoder, self.max_length, self.policy, self.shared = encoder, max_length, policy, shared

    def longest_row(self, lengths: Sequence[int]) -> int | None:
        """Most tokens of a row in a batch of conversations of these lengths; None for no limit."""
        return self.max_length if self.shared is None or max(lengths) > self.shared else self.shared

    def pictures_too_long(self, conversation: Conversation) -> bool:
        """Whether its images alone have more tokens than it may have and will be shrunk: known before any is decoded.

        Raises:
            RecordError: an image cannot be used.
        """
        if self.policy != "shrink_image" or self.max_length is None or not conversation.images or not self._counted:
            return False
        return sum(self._counted.of(check_images(conversation))) > self.max_length

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

    def apply_to_unit_with(
        self, unit: Sequence[Conversation], longest: int, beside: Conversation
    ) -> tuple[list[Conversation], list[Conversation], list[list[Image.Image]]] | None:
        """The same of a unit and a conversation beside it: the unit, that conversation, and the images of both.

        Args:
            unit: conversations that show the same images behind the same turns.
            longest: which of them has most tokens.
            beside: a conversation behind the same turns that shows other images.

        Raises:
            RecordError: the policy is `error`, or nothing is left to trim or shrink.
        """
        conversations, images = list(unit), load_images(unit[0])
        if not self.fits(unit[longest], images, for_generation=False):
            fitted = self.apply_to_unit(unit, longest, images)
            if fitted is None:
                return None
            conversations, images = fitted
        beside, others = _asked_as(conversations[0], beside), load_images(beside)
        if not self.fits(beside, others, for_generation=False):
            changed = self.apply(beside, others)
            if changed is None:
                return None
            beside, others = changed
            conversations = [_asked_as(beside, one) for one in conversations]
        return conversations, [beside], [images, others]

    def _trim(self, conversation: Conversation, images: list[Image.Image], for_generation: bool) -> Conversation:
        longest = max(
            (k for k, turn in enumerate(conversation.turns) if turn.role == "user"),
            key=lambda k: len(conversation.turns[k].text),
        )
        words = sum(len(_WORD.findall(part)) for part in conversation.turns[longest].content if isinstance(part, str))
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
        if not images:
            raise self._error(conversation, images, for_generation, "It has no images to shrink")
        if self._counted is None:
            return self._shrink_by_trying(conversation, images, for_generation)
        assert self.max_length is not None
        sizes = [image.size for image in images]
        words = self._words(self._counted, conversation, len(images), for_generation)
        if words + sum(self._counted.of(sizes)) <= self.max_length:
            return images  # upright they have fewer than as they are stored
        found = fitting_sizes(self._counted, sizes, self.max_length - words)
        if found is None:
            length = words + sum(self._counted.of(sizes))
            raise self._unshrinkable(conversation, length, words + sum(self._counted.of([_DOT] * len(images))))
        return [image.resize(size) for image, size in zip(images, found, strict=True)]

    @cached_property
    def _counted(self) -> ImageTokens | None:
        """Tells an image's tokens by its size; None where that takes processing it."""
        return image_tokens_of(self.encoder.processor)

    def _words(self, counted: ImageTokens, conversation: Conversation, images: int, for_generation: bool) -> int:
        """The conversation's tokens without those of its images: small ones stand in for them."""
        dots = [Image.new("RGB", _DOT) for _ in range(images)]
        return self._length(conversation, dots, for_generation) - sum(counted.of([_DOT] * images))

    def _shrink_by_trying(
        self, conversation: Conversation, images: list[Image.Image], for_generation: bool
    ) -> list[Image.Image]:
        before = self._length(conversation, images, for_generation)
        while min(min(image.size) for image in images) * STEP >= SMALLEST_SIDE:
            images = [image.resize((round(image.width * STEP), round(image.height * STEP))) for image in images]
            if self.fits(conversation, images, for_generation=for_generation):
                return images
        raise self._unshrinkable(conversation, before, self._length(conversation, images, for_generation))

    def _unshrinkable(self, conversation: Conversation, length: int, after: int) -> RecordError:
        fixed = ", since this processor gives every image the same number of tokens" if after == length else ""
        return self._too_long(
            conversation,
            length,
            f"Shrinking its images does not help{fixed}. Raise max_length, or have images of fewer tokens by "
            "data.init_args.image_processor, or set over_length to another policy",
        )

    def _error(
        self, conversation: Conversation, images: Sequence[Image.Image], for_generation: bool, remedy: str
    ) -> RecordError:
        return self._too_long(conversation, self._length(conversation, images, for_generation), remedy)

    def _too_long(self, conversation: Conversation, length: int, remedy: str) -> RecordError:
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
    """The conversation with turn `k`'s text cut behind its first `words` words; its images stay, and what is kept."""
    turn, left = conversation.turns[k], words
    content: list[Part] = []
    for part in turn.content:
        if isinstance(part, str):
            ends = [match.end() for match in _WORD.finditer(part)]
            content.append(part if left > len(ends) else part[: ends[left - 1]] if left else "")
            left = max(0, left - len(ends))
        else:
            content.append(part)
    turns = (*conversation.turns[:k], replace(turn, content=tuple(content)), *conversation.turns[k + 1 :])
    return replace(conversation, turns=turns)
