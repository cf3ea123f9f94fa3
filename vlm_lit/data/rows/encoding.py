"""Encoding of several conversations as one padded batch of token ids, labels and pixels.

The processor sees the whole batch at once, images nested per conversation (the one form every family accepts).
Tokens are never cut: truncating would cut image placeholders away from their features. Fields that run along the tokens
(mask, token types, an image's cross-attention) are known by their shape [B, L, ...]: a processor's other fields count
images, tiles or patches, of which a batch of conversations never has as many as tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import ProcessorMixin

from vlm_lit.data.features.stored_images import ImageInput, standing_in
from vlm_lit.data.rows.conversation_encoder import Written
from vlm_lit.data.rows.encoded_rows import EncodedRow, Side, assembled
from vlm_lit.data.rows.exact_tokens import ExactTokens, Tokens, keep_blanks_in_offsets, supervised_tokens
from vlm_lit.data.rows.masking import Rendered, Transcript, shift_spans
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, TokenBatch

UNFIT: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What a processor ends in that is given what it cannot use, or whose settings in its checkpoint are none."""

_MADE_OF_TEXT: Final = {"input_ids", "attention_mask", "mm_token_type_ids"}
"""Fields of a row that follow from its text, once what stands for its images is known."""

Replacements = Sequence[dict[str, Any]]
"""What a processor wrote for each image of a text: `span` before, `new_span` after, `replacement`."""


@dataclass(frozen=True)
class Tokenized:
    """A conversation's text with what stands for its images written out, and its tokens as the tokenizer gives them."""

    text: str
    tokens: Tokens
    replacements: Replacements


@dataclass(frozen=True)
class _Read:
    """What a processor makes of a batch: fields along the tokens [B, L, ...], the others, offsets [B, L, 2]."""

    along_tokens: dict[str, Tensor]
    rest: dict[str, Tensor]
    offsets: Tensor
    replacements: list[Replacements]


@dataclass(frozen=True)
class WrittenTurns(Written):
    """A conversation as its chat template renders it."""

    rendered: Rendered


class Encoder:
    """A `ConversationEncoder` for processors with a chat template."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.processor = transcript.processor
        self.tokenizer = transcript.tokenizer
        keep_blanks_in_offsets(self.tokenizer)
        self.exact = ExactTokens(self.tokenizer, transcript.control_strings)

    @property
    def end_of_turn(self) -> tuple[int, ...]:
        """Token ids that end an assistant turn."""
        return self.transcript.end_of_turn

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

    def write(self, conversation: Conversation, *, for_generation: bool = False) -> WrittenTurns:
        """The conversation as its chat template renders it; see `ConversationEncoder`."""
        return WrittenTurns(conversation, self.transcript.render(conversation, for_generation=for_generation))

    def encode_written(
        self, written: Sequence[Written], images: Sequence[Sequence[ImageInput]], *, side: Side
    ) -> TokenBatch:
        """Encode rows into one batch; see `ConversationEncoder`."""
        rows, _, rest = self.rows(written, images)
        return assembled(rows, rest, [w.conversation.id for w in written], self.tokenizer, side)

    def rows_alike(
        self, written: Sequence[Written], images: Sequence[ImageInput]
    ) -> tuple[list[EncodedRow], dict[str, Tensor]]:
        """Rows that show the same images, which are processed once where the text alone makes the rest of a row."""
        (first,), (tokenized,), rest = self.rows(written[:1], [images])
        if first.fields.keys() <= _MADE_OF_TEXT:
            return [first, *(self.row_like(first, other, tokenized) for other in written[1:])], rest
        return [first, *(self.rows([other], [images])[0][0] for other in written[1:])], rest

    def rows(
        self, written: Sequence[Written], images: Sequence[Sequence[ImageInput]]
    ) -> tuple[list[EncodedRow], list[Tokenized], dict[str, Tensor]]:
        """Each conversation's row, its text and tokens, and the fields that do not run along tokens.

        A row's fields are [T, ...] for its T tokens, the other fields [N, ...] for N images, tiles or patches.

        Args:
            written: B conversations.
            images: the images of each.
        """
        rendered, conversations = [_rendered(w) for w in written], [w.conversation for w in written]
        kinds = [self._adds_special_tokens(item) for item in rendered]
        read = {special: self._read(rendered, images, conversations, special) for special in dict.fromkeys(kinds)}
        rows, tokenized = list[EncodedRow](), list[Tokenized]()
        for i, (item, conversation, special) in enumerate(zip(rendered, conversations, kinds, strict=True)):
            along_tokens, replacements = read[special].along_tokens, read[special].replacements[i]
            length = int(along_tokens["attention_mask"][i].sum())
            fields = {name: value[i, :length] for name, value in along_tokens.items()}
            spans = [(start, end) for start, end in read[special].offsets[i, :length].tolist()]
            tokens = Tokens.old(fields["input_ids"].tolist(), spans)
            tokenized.append(Tokenized(written_out(item.text, replacements), tokens, replacements))
            rows.append(self._row(fields, tokenized[-1], item, conversation))
        return rows, tokenized, read[kinds[0]].rest

    def _read(
        self,
        rendered: Sequence[Rendered],
        images: Sequence[Sequence[ImageInput]],
        conversations: Sequence[Conversation],
        special: bool,
    ) -> _Read:
        """A whole batch as the processor reads it, with special tokens around every text or around none.

        A batch of both kinds is read twice, so that no field's width depends on which rows are of which kind.
        """
        output = processed(
            self.processor,
            [item.text for item in rendered],
            images,
            conversations,
            add_special_tokens=special,
            return_text_replacement_offsets=True,
        )
        found = output.pop("text_replacement_offsets", None)
        # None of them where the batch shows no image.
        replacements: list[Replacements] = found if isinstance(found, list) and found else [[] for _ in rendered]
        offsets = output.pop("offset_mapping")
        assert isinstance(offsets, Tensor)
        return _Read(*split_fields(output), offsets, replacements)

    def row_like(self, first: EncodedRow, written: Written, known: Tokenized) -> EncodedRow:
        """The row of a conversation whose images were processed with another's, without processing them again.

        What both say up to the images' end is not tokenized again either.

        Args:
            first: the other conversation's row.
            written: the conversation.
            known: the other conversation's text and tokens.
        """
        rendered = _rendered(written)
        stand_ins = [str(replacement["replacement"]) for replacement in known.replacements]
        (text,), (moved,) = self.processor.get_text_with_replacements([rendered.text], stand_ins)
        end = moved[-1]["new_span"][1] if moved else 0
        if text[:end] != known.text[:end]:
            end = 0
        tokens = self.exact.with_other_end(
            known.tokens, known.text, end, text, special=self._adds_special_tokens(rendered)
        )
        ids = torch.tensor(tokens.ids)
        fields = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "mm_token_type_ids" in first.fields:
            kinds = self.processor.create_mm_token_type_ids([tokens.ids])
            fields["mm_token_type_ids"] = torch.tensor(kinds[0])
        assert fields.keys() == first.fields.keys()
        return self._row(fields, Tokenized(text, tokens, moved), rendered, written.conversation)

    def text_lengths(
        self, conversations: Sequence[Conversation], *, for_generation: bool = False
    ) -> list[int | RecordError]:
        """Tokens of each conversation's text; see `ConversationEncoder`."""
        found: list[Rendered | RecordError] = []
        for conversation in conversations:
            try:
                found.append(self.transcript.render(conversation, for_generation=for_generation))
            except RecordError as error:
                found.append(error)
        whole = [item for item in found if isinstance(item, Rendered)]
        rows = iter(self._text_tokens(whole))
        return [
            item if isinstance(item, RecordError) else self._text_length(item, next(rows), conversation)
            for item, conversation in zip(found, conversations, strict=True)
        ]

    def _text_tokens(self, rendered: Sequence[Rendered]) -> list[Tokens]:
        """The tokens of each text."""
        kinds = [self._adds_special_tokens(item) for item in rendered]
        found = dict[bool, Iterator[Tokens]]()
        for special in dict.fromkeys(kinds):
            output = self.tokenizer(
                [item.text for item, kind in zip(rendered, kinds, strict=True) if kind == special],
                add_special_tokens=special,
                return_offsets_mapping=True,
            )
            found[special] = map(Tokens.old, output["input_ids"], output["offset_mapping"])
        return [next(found[special]) for special in kinds]

    def _text_length(self, rendered: Rendered, tokens: Tokens, conversation: Conversation) -> int | RecordError:
        try:
            tokens, _ = self._masked(Tokenized(rendered.text, tokens, []), rendered, conversation)
        except RecordError as error:
            return error
        return len(tokens) - len(conversation.images)

    def _adds_special_tokens(self, rendered: Rendered) -> bool:
        bos = self.tokenizer.bos_token
        return not (bos and rendered.text.startswith(bos))

    def _row(
        self, fields: dict[str, Tensor], tokenized: Tokenized, rendered: Rendered, conversation: Conversation
    ) -> EncodedRow:
        """A row of exact tokens from fields, each [T, ...], of T tokens."""
        tokens, mask = self._masked(tokenized, rendered, conversation)
        row = EncodedRow(fields, mask)
        return row if tokens is tokenized.tokens else row.of(tokens, mask)

    def _masked(
        self, tokenized: Tokenized, rendered: Rendered, conversation: Conversation
    ) -> tuple[Tokens, list[bool]]:
        """The exact tokens of a text, and which of them are supervised."""
        text, tokens, replacements = tokenized.text, tokenized.tokens, tokenized.replacements
        asked = [begin for begin, _ in shift_spans([(at, at) for at in rendered.asked], replacements)]
        tokens = self.exact.divided(tokens, text, asked, special=self._adds_special_tokens(rendered))
        if rendered.escapes:
            tokens = self.exact.with_typed(tokens, text, rendered.escapes)
        return tokens, supervised_tokens(tokens.offsets, shift_spans(rendered.spans, replacements), text, conversation)


def _rendered(written: Written) -> Rendered:
    assert isinstance(written, WrittenTurns)
    return written.rendered


def written_out(text: str, replacements: Replacements) -> str:
    """A text with what stands for its images in the place of their placeholders."""
    pieces, done = [], 0
    for replacement in replacements:
        start, end = replacement["span"]
        pieces += [text[done:start], str(replacement["replacement"])]
        done = end
    return "".join([*pieces, text[done:]])


def processed(
    processor: ProcessorMixin,
    texts: Sequence[str],
    images: Sequence[Sequence[ImageInput]],
    conversations: Sequence[Conversation],
    **options: object,
) -> dict[str, object]:
    """The processor's output for a batch, padded on the right, offsets included; stored images give no pixels.

    Raises:
        RecordError: the processor refuses a conversation.
    """
    answering, decoded = standing_in(processor, images)
    try:
        output = dict(
            answering(
                text=list(texts),
                images=decoded,
                padding=True,
                padding_side="right",
                return_offsets_mapping=True,
                return_tensors="pt",
                **options,
            )
        )
        return {name: value for name, value in output.items() if not (isinstance(value, Tensor) and not value.numel())}
    except UNFIT as error:
        names = ", ".join(c.id for c in conversations[:5])
        raise RecordError(
            f"the processor refuses the conversation: {error}",
            remedy="Check its images and image placeholders, and the settings in the checkpoint's processor files.",
            file=conversations[0].file,
            record=conversations[0].record if len(conversations) == 1 else f"one of the ids {names}",
            code="processor.refused",
        ) from error


def split_fields(output: dict[str, object]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The fields that run along the tokens [B, L, ...], and the others."""
    tensors = {name: value for name, value in output.items() if isinstance(value, Tensor)}
    shape = tensors["input_ids"].shape
    along = {name: value for name, value in tensors.items() if value.shape[:2] == shape}
    return along, {name: value for name, value in tensors.items() if name not in along}
