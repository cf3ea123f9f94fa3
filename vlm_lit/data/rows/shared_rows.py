"""Encoder of packed rows: several questions about one image in a row, the image processed once."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_lit.data.features.stored_images import ImageInput, features_of
from vlm_lit.data.rows.conversation_encoder import Written
from vlm_lit.data.rows.encoding import Encoder, WrittenTurns
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.rows.row_groups import RowGroup, encoded_group, padded_groups
from vlm_lit.schema import TokenBatch


class SharedRowEncoder:
    """Makes right-padded batches whose rows are groups of conversations, or of prompts, that share their images."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def key(self, written: Written) -> tuple[str, str] | None:
        """What conversations must have in common to share a row: images, and every word up to the last of them.

        None where the conversation is to have a row of its own: it shows no image, or control strings were typed in it.
        """
        assert isinstance(written, WrittenTurns)
        images = image_key(written.conversation)
        if images is None:
            return None
        rendered = written.rendered
        end = rendered.text.rfind(str(self.encoder.processor.image_token))
        return None if rendered.escapes or end < 0 else (images, rendered.text[:end])

    def encode(self, groups: Sequence[RowGroup], images: Sequence[Sequence[ImageInput]]) -> TokenBatch:
        """Encode groups into one batch, a row each, by one call of the processor.

        Args:
            groups: B groups of conversations with one key, each group with as many images as the others.
            images: each group's images, decoded or stored.

        Raises:
            RecordError: the processor refuses a conversation.
        """
        firsts, tokenized, rest = self.encoder.rows([group.written[0] for group in groups], images)
        made = []
        for group, first, known in zip(groups, firsts, tokenized, strict=True):
            others = [self.encoder.row_like(first, other, known) for other in group.written[1:]]
            made.append(encoded_group(group, [first, *others], {}, ()))
        batch = padded_groups(made, self.encoder.tokenizer, rest)
        batch.features = features_of(images)
        return batch
