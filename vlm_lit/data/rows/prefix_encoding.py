"""Encoder for models that read the whole prompt in both directions: one question and its answer a row.

Some processors (PaliGemma's) have no chat template: they take a prompt and, as `suffix`, the answer. The prompt sees
itself in both directions, the answer only what stands before it; `token_type_ids` say which is which. Rendered as one
text, an answer would be seen by the words that are to predict it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_lit.data.features.stored_images import ImageInput
from vlm_lit.data.rows.conversation_encoder import Written
from vlm_lit.data.rows.encoded_rows import EncodedRow, Side, assembled
from vlm_lit.data.rows.encoding import processed, split_fields
from vlm_lit.data.rows.escapes import any_of, escape
from vlm_lit.data.rows.exact_tokens import ExactTokens, Tokens, keep_blanks_in_offsets
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, TokenBatch

_ROLES = (["user"], ["user", "assistant"])


@dataclass(frozen=True)
class _Exchange(Written):
    """A prompt and its answer with what was typed in place of their private characters."""

    prompt: str
    answer: str | None
    escapes: dict[str, str]


class PrefixEncoder:
    """A `ConversationEncoder` for processors that take `suffix`: images first, one question, one answer.

    Location and segment tokens (`<loc0123>`) keep their meaning; the image token and the special ones are text.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        keep_blanks_in_offsets(self.tokenizer)
        self.exact = ExactTokens(self.tokenizer, self.control_strings)

    @property
    def end_of_turn(self) -> tuple[int, ...]:
        """Token ids that end an answer."""
        return (int(self.tokenizer.eos_token_id),)

    @cached_property
    def control_strings(self) -> re.Pattern[str]:
        """The image token and the tokenizer's special ones."""
        return any_of([str(self.processor.image_token), *self.tokenizer.all_special_tokens])

    def encode(
        self,
        conversations: Sequence[Conversation],
        images: Sequence[Sequence[ImageInput]],
        *,
        side: Side,
        for_generation: bool = False,
    ) -> TokenBatch:
        """Encode rows into one batch; see `ConversationEncoder`."""
        written = [self.write(c, for_generation=for_generation) for c in conversations]
        return self.encode_written(written, images, side=side)

    def encode_written(
        self, written: Sequence[Written], images: Sequence[Sequence[ImageInput]], *, side: Side
    ) -> TokenBatch:
        """Encode rows into one batch; see `ConversationEncoder`."""
        rows, rest = self._rows(written, images)
        return assembled(rows, rest, [w.conversation.id for w in written], self.tokenizer, side)

    def rows_alike(
        self, written: Sequence[Written], images: Sequence[ImageInput]
    ) -> tuple[list[EncodedRow], dict[str, Tensor]]:
        """Rows that show the same images, which are processed with each; see `ConversationEncoder`."""
        each = [self._rows([one], [images]) for one in written]
        return [row for (row,), _ in each], each[0][1]

    def _rows(
        self, written: Sequence[Written], images: Sequence[Sequence[ImageInput]]
    ) -> tuple[list[EncodedRow], dict[str, Tensor]]:
        """Each conversation's row, its fields [T, ...], and those that do not run along its T tokens, [N, ...]."""
        exchanges = [w for w in written if isinstance(w, _Exchange)]
        assert len(exchanges) == len(written)
        texts = [
            str(self.processor.image_token) * len(group) + exchange.prompt
            for exchange, group in zip(exchanges, images, strict=True)
        ]
        answers = [exchange.answer for exchange in exchanges if exchange.answer is not None]
        suffix = {"suffix": answers} if answers else {}
        output = processed(self.processor, texts, images, [w.conversation for w in written], **suffix)
        offsets = output.pop("offset_mapping")
        output.pop("labels", None)
        assert isinstance(offsets, Tensor)
        along_tokens, rest = split_fields(output)
        rows = []
        for i, exchange in enumerate(exchanges):
            length = int(along_tokens["attention_mask"][i].sum())
            fields = {name: value[i, :length] for name, value in along_tokens.items()}
            row = EncodedRow(fields, (fields["token_type_ids"] == 1).tolist())
            rows.append(self._restore(row, exchange, offsets[i, :length].tolist()) if exchange.escapes else row)
        return rows, rest

    def text_lengths(
        self, conversations: Sequence[Conversation], *, for_generation: bool = False
    ) -> list[int | RecordError]:
        """Tokens of each prompt and answer; see `ConversationEncoder`."""
        return [self._text_length(conversation, for_generation) for conversation in conversations]

    def _text_length(self, conversation: Conversation, for_generation: bool) -> int | RecordError:
        try:
            exchange = self.write(conversation, for_generation=for_generation)
        except RecordError as error:
            return error
        assert isinstance(exchange, _Exchange)
        texts = [f"{exchange.prompt}\n", exchange.answer or ""]
        return sum(map(len, self.tokenizer(texts, add_special_tokens=False)["input_ids"]))

    def write(self, conversation: Conversation, *, for_generation: bool = False) -> Written:
        """The conversation's question and answer; see `ConversationEncoder`."""
        roles = [turn.role for turn in conversation.turns]
        if roles not in _ROLES or not conversation.images:
            found = f"{len(conversation.images)} images and the turns {', '.join(roles)}"
            raise RecordError(
                f"this checkpoint takes one image or more, one question and one answer; the conversation has {found}",
                remedy="Split it into questions with an image each and leave out the system message.",
                file=conversation.file,
                record=conversation.record,
                code="conversation.form",
            )
        escaped, escapes = escape(conversation.turns, self.control_strings)
        answer = "" if len(escaped) == 1 else escaped[1].text
        return _Exchange(conversation, escaped[0].text.strip(), None if for_generation else answer, escapes)

    def _restore(self, row: EncodedRow, exchange: _Exchange, offsets: Sequence[Sequence[int]]) -> EncodedRow:
        """Prompt and answer each count their characters from nought; here the answer's are put behind the prompt's."""
        prefix_end = max(end for (_, end), said in zip(offsets, row.supervised, strict=True) if not said)
        spans = [
            (start + prefix_end, end + prefix_end) if said else (start, end)
            for (start, end), said in zip(offsets, row.supervised, strict=True)
        ]
        # The processor writes images and a beginning of sequence before the prompt, and a line break behind it.
        answer = exchange.answer or ""
        text = f"{exchange.prompt}\n{answer}".rjust(prefix_end + len(answer), "\0")
        tokens = Tokens.old(row.fields["input_ids"].tolist(), spans)
        tokens = self.exact.with_typed(tokens, text, exchange.escapes)
        return row.of(tokens, [row.supervised[i] for i in tokens.source])
