"""Protocol of what makes padded batches of conversations, whatever a checkpoint's processor calls for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_lit.data.features.stored_images import ImageInput
from vlm_lit.data.rows.encoded_rows import EncodedRow, Side
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, TokenBatch


@dataclass(frozen=True)
class Written:
    """A conversation with the text that its rows are made from. An encoder's own kind has the text itself.

    A chat template is rendered once a conversation: whatever is arranged later goes on from this.
    """

    conversation: Conversation


class TextLengths(Protocol):
    """Whatever tells how long the text of conversations is, before any image is decoded."""

    processor: ProcessorMixin
    tokenizer: PreTrainedTokenizerBase

    def text_lengths(
        self, conversations: Sequence[Conversation], *, for_generation: bool = False
    ) -> list[int | RecordError]:
        """Tokens of each conversation without what stands for its images, or what is wrong with its text.

        No image is needed, and a row of the conversation has as many tokens at least.

        Args:
            conversations: some conversations.
            for_generation: leave out the last assistant turn and ask for it.
        """


class ConversationEncoder(TextLengths, Protocol):
    """Whatever turns conversations with their decoded images into padded batches. B = rows, L = tokens."""

    @property
    def end_of_turn(self) -> tuple[int, ...]:
        """Token ids that end an assistant turn."""

    def encode(
        self,
        conversations: Sequence[Conversation],
        images: Sequence[Sequence[ImageInput]],
        *,
        side: Side,
        for_generation: bool = False,
    ) -> TokenBatch:
        """Encode rows into one batch.

        Args:
            conversations: B conversations.
            images: the images of each, decoded or stored, in the order of its image slots.
            side: where padding goes: right for training, left for generation.
            for_generation: leave out the last assistant turn and ask for it.

        Raises:
            RecordError: the processor refuses a conversation, for example because image counts differ.
        """

    def write(self, conversation: Conversation, *, for_generation: bool = False) -> Written:
        """The text of a conversation; `for_generation` leaves out the last assistant turn and asks for it.

        Raises:
            RecordError: the checkpoint does not take the conversation, or no mask of its text could be exact.
        """

    def encode_written(
        self, written: Sequence[Written], images: Sequence[Sequence[ImageInput]], *, side: Side
    ) -> TokenBatch:
        """What `encode` makes of conversations that are written already."""

    def rows_alike(
        self, written: Sequence[Written], images: Sequence[ImageInput]
    ) -> tuple[list[EncodedRow], dict[str, Tensor]]:
        """The rows of conversations that all show these images, not padded, and the images' fields, once.

        A row's fields are [T, ...] for its T tokens, an image's [N, ...] as the processor makes them for one row.

        Raises:
            RecordError: the processor refuses a conversation.
        """
