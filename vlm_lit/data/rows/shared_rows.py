"""Encoder of packed rows: several questions about one image in a row, the image processed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlm_lit.data.features.stored_images import Picture
from vlm_lit.data.rows.encoding import EncodedRow, Encoder, assembled, padded
from vlm_lit.data.rows.packing import image_key, packed
from vlm_lit.schema import Conversation, TokenBatch


class SharedRowEncoder:
    """Makes right-padded batches whose rows are groups of conversations, or of prompts, that share their images."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def key(self, conversation: Conversation, *, for_generation: bool = False) -> tuple[str, str] | None:
        """What conversations must have in common to share a row: images, and every word up to the last of them.

        None where the conversation is to have a row of its own: it shows no image, or control strings were typed in it.
        """
        images = image_key(conversation)
        if images is None:
            return None
        rendered = self.encoder.transcript.render(conversation, for_generation=for_generation)
        end = rendered.text.rfind(str(self.encoder.processor.image_token))
        return None if rendered.escapes or end < 0 else (images, rendered.text[:end])

    def encode(
        self,
        groups: Sequence[Sequence[Conversation]],
        images: Sequence[Sequence[Picture]],
        *,
        for_generation: bool = False,
    ) -> TokenBatch:
        """Encode groups into one batch, a row each.

        Args:
            groups: B groups of conversations with one key, each group with as many images as the others.
            images: each group's images, decoded or stored.
            for_generation: leave out each last assistant turn and ask for it.

        Raises:
            RecordError: the processor refuses a conversation.
        """
        render = self.encoder.transcript.render
        rendered = [[render(c, for_generation=for_generation) for c in group] for group in groups]
        first, replacements, rest = self.encoder.rows([r[0] for r in rendered], images, [g[0] for g in groups])
        rows: list[list[EncodedRow]] = []
        for b, group in enumerate(groups):
            others = zip(rendered[b][1:], group[1:], strict=True)
            alike = [self.encoder.row_like(first[b], text, replacements[b], c) for text, c in others]
            rows.append([first[b], *alike])
        together = [packed(group) for group in rows]
        batch = assembled(
            [row for row, _ in together], rest, [c.id for g in groups for c in g], self.encoder.tokenizer, "right"
        )
        segments = padded([segment for _, segment in together], 0, "right")
        lengths = [len(row) for group in rows for row in group]
        return replace(batch, lengths=lengths, segments=segments if bool(segments.any()) else None)
