"""How do several conversations become one padded batch of token ids, labels and pixels?

The processor sees the whole batch at once, images nested per conversation (the one form every family accepts).
Tokens are never cut: truncating would cut image placeholders away from their features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from vlm_lit.data.masking import Rendered, Span, Transcript, shift_spans, supervised_tokens
from vlm_lit.schema import IGNORE_INDEX, Batch, Conversation, RecordError

Side = Literal["left", "right"]


@dataclass
class Row:
    """One conversation's T tokens before padding, each field [T, ...]."""

    fields: dict[str, Tensor]
    supervised: list[bool]

    def __len__(self) -> int:
        return len(self.supervised)


class Encoder:
    """Turns conversations with their decoded images into padded batches."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.processor = transcript.processor
        self.tokenizer = transcript.tokenizer

    def encode(
        self,
        conversations: Sequence[Conversation],
        images: Sequence[Sequence[Image.Image]],
        *,
        side: Side,
        for_generation: bool = False,
    ) -> Batch:
        """Encode rows into one batch.

        Args:
            conversations: B conversations.
            images: the decoded images of each, in the order of its image slots.
            side: where padding goes: right for training, left for generation.
            for_generation: leave out the last assistant turn and ask for it.

        Raises:
            RecordError: the processor refuses a conversation, for example because image counts differ.
        """
        rendered = [self.transcript.render(c, for_generation=for_generation) for c in conversations]
        output = self._process(rendered, images, conversations)
        rows, rest = self._rows(output, rendered, conversations)
        labels = [torch.where(torch.tensor(row.supervised), row.fields["input_ids"], IGNORE_INDEX) for row in rows]
        inputs = {name: self._pad([row.fields[name] for row in rows], name, side) for name in rows[0].fields}
        return Batch(inputs=inputs | rest, labels=_stack(labels, IGNORE_INDEX, side), ids=[c.id for c in conversations])

    def _process(
        self,
        rendered: Sequence[Rendered],
        images: Sequence[Sequence[Image.Image]],
        conversations: Sequence[Conversation],
    ) -> dict[str, object]:
        bos = self.tokenizer.bos_token
        try:
            return dict(
                self.processor(
                    text=[r.text for r in rendered],
                    images=[list(group) for group in images] if any(images) else None,
                    padding=True,
                    padding_side="right",
                    add_special_tokens=not (bos and rendered[0].text.startswith(bos)),
                    return_offsets_mapping=True,
                    return_text_replacement_offsets=True,
                    return_tensors="pt",
                )
            )
        except ValueError as error:
            names = ", ".join(c.id for c in conversations[:5])
            raise RecordError(
                f"the processor refuses the conversation: {error}",
                remedy="Check its images and image placeholders.",
                file=conversations[0].file,
                record=conversations[0].record if len(conversations) == 1 else f"one of the ids {names}",
            ) from error

    def _rows(
        self, output: dict[str, object], rendered: Sequence[Rendered], conversations: Sequence[Conversation]
    ) -> tuple[list[Row], dict[str, Tensor]]:
        replacements = output.pop("text_replacement_offsets", None) or [[] for _ in rendered]
        offsets = output.pop("offset_mapping")
        tensors = {name: value for name, value in output.items() if isinstance(value, Tensor)}
        assert isinstance(offsets, Tensor)
        assert isinstance(replacements, list)
        shape = tensors["input_ids"].shape
        along_tokens = [name for name, value in tensors.items() if value.shape[:2] == shape]
        rows = []
        for i, (text, conversation) in enumerate(zip(rendered, conversations, strict=True)):
            length = int(tensors["attention_mask"][i].sum())
            spans = [(int(start), int(end)) for start, end in offsets[i, :length].tolist()]
            mask = supervised_tokens(spans, shift_spans(text.spans, replacements[i]), conversation)
            row = Row({name: tensors[name][i, :length] for name in along_tokens}, mask)
            rows.append(self._restore(row, text, spans, replacements[i]) if text.escapes else row)
        return rows, {name: value for name, value in tensors.items() if name not in along_tokens}

    def _restore(
        self, row: Row, text: Rendered, offsets: Sequence[Span], replacements: Sequence[dict[str, Span]]
    ) -> Row:
        """Put the typed control strings back, as ordinary text, where their private characters stand."""
        keep: list[int] = []
        ids: list[int] = []
        typed_at = {
            shift_spans([(at, at + 1)], replacements)[0]: text.escapes[character]
            for at, character in enumerate(text.text)
            if character in text.escapes
        }
        done: set[Span] = set()
        for i, (start, end) in enumerate(offsets):
            covered = sorted(span for span in typed_at if span[0] < end and start < span[1])
            fresh = [span for span in covered if span not in done]
            done.update(fresh)
            new = [t for span in fresh for t in self.transcript.literal_ids(typed_at[span])]
            ids += new if covered else [int(row.fields["input_ids"][i])]
            keep += [i] * (len(new) if covered else 1)
        fields = {name: value[keep] for name, value in row.fields.items()}
        fields["input_ids"] = torch.tensor(ids, dtype=row.fields["input_ids"].dtype)
        return Row(fields, [row.supervised[i] for i in keep])

    def _pad(self, values: Sequence[Tensor], name: str, side: Side) -> Tensor:
        return _stack(values, int(self.tokenizer.pad_token_id) if name == "input_ids" else 0, side)


def _stack(values: Sequence[Tensor], fill: int, side: Side) -> Tensor:
    longest = max(len(value) for value in values)
    padded = values[0].new_full((len(values), longest, *values[0].shape[1:]), fill)
    for row, value in zip(padded, values, strict=True):
        target = row[: len(value)] if side == "right" else row[longest - len(value) :]
        target.copy_(value)
    return padded
