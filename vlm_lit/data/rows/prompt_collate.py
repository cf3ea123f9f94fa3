"""Collator of an evaluation: prompts that end where the model is to answer, and their true answers where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image

from vlm_lit.data.conversations.conversations import can_be_learned
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import features_of
from vlm_lit.data.grouping import grouped
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.collate import StepCollator, images_of
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder, Written
from vlm_lit.data.rows.encoded_rows import Side
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.over_length import TOO_LONG, OverLengthPolicy
from vlm_lit.data.rows.row_groups import RowGroup, chunks
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import Conversation, EvaluationBatch, PromptBatch, StepBatch, TokenBatch

Decoded = tuple[Conversation, list[Image.Image]]


class PromptCollator:
    """Makes batches of prompts that end where the model is to answer.

    Args:
        encoder: makes padded batches.
        policy: what happens to over-length conversations.
        packing: let prompts that show the same images share a row. Rows are padded on the right then, else on the left.
        store: where images may be found that need not be looked at again.
        supervised: makes what training would see of the same conversations, where their loss is wanted.
        asks: whether the prompts are to be answered; without, there is their loss alone.
    """

    def __init__(
        self,
        encoder: ConversationEncoder,
        policy: OverLengthPolicy,
        *,
        packing: bool = False,
        store: FeatureStore | None = None,
        supervised: StepCollator | None = None,
        asks: bool = True,
    ) -> None:
        self.encoder, self.policy, self.store = encoder, policy, store
        self.supervised, self.asks = supervised, asks
        self.shared = SharedRowEncoder(encoder) if packing and isinstance(encoder, Encoder) else None

    def __call__(self, conversations: Sequence[Conversation]) -> EvaluationBatch | RecordError:
        """Collate prompts; the error of a bad record is returned, not raised."""
        try:
            step_batch = self._asked(conversations) if self.asks else EvaluationBatch(batches=[], ids=[])
            if self.supervised is not None:
                # A record whose answers are asked for one by one is learned once, whole.
                records = [c for c in conversations if not c.continues]
                step_batch.unanswered = [c.id for c in records if not can_be_learned(c)]
                step_batch.supervised = raised(self.supervised([c for c in records if can_be_learned(c)]))
            return step_batch
        except RecordError as error:
            return error

    def _asked(self, conversations: Sequence[Conversation]) -> EvaluationBatch:
        written = [self.encoder.write(c, for_generation=True) for c in conversations]
        keys = [self.shared.key(one) if self.shared is not None else None for one in written]
        groups = [RowGroup(tuple((one,) for one in alike), shared=True) for alike in grouped(written, keys)]
        groups.sort(key=lambda group: group.size)
        batches = [self._batch(chunk) for chunk in chunks(groups, len(groups))]
        return EvaluationBatch(batches=batches, ids=[c.id for c in conversations])

    def _batch(self, groups: Sequence[RowGroup]) -> PromptBatch:
        written = [one for group in groups for one in group.written]
        conversations = [one.conversation for one in written]
        batch = self._shared(groups) or self._stored(written) or self._decoded(conversations)
        return PromptBatch(
            inputs=batch.inputs,
            conversations=[without_pixels(c) for c in conversations],
            segments=batch.segments,
            features=batch.features,
        )

    def _shared(self, groups: Sequence[RowGroup]) -> TokenBatch | None:
        """A row a group; None where rows may not be shared, or a prompt is too long."""
        if self.shared is None:
            return None
        batch = self.shared.encode(groups, images_of([group.first for group in groups], self.store))
        segments = torch.zeros_like(batch.inputs["input_ids"]) if batch.segments is None else batch.segments
        return replace(batch, segments=segments) if self._fits(batch) else None

    def _stored(self, written: Sequence[Written]) -> TokenBatch | None:
        """A row a prompt without its pixels; None where they are not stored, or a prompt is too long."""
        stored = self.store.found([one.conversation for one in written]) if self.store is not None else None
        if stored is None:
            return None
        batch = self.encoder.encode_written(written, stored, side="left")
        return replace(batch, features=features_of(stored)) if self._fits(batch) else None

    def _fits(self, batch: TokenBatch) -> bool:
        return self.policy.max_length is None or max(batch.lengths) <= self.policy.max_length

    def _decoded(self, conversations: Sequence[Conversation]) -> TokenBatch:
        decoded = [(c, load_images(c)) for c in conversations]
        step_batch = StepBatch()
        batch = encode_fitting(self.encoder, self.policy, decoded, step_batch, side="left", for_generation=True)
        if batch is None or step_batch.dropped:
            raise _dropped_in_evaluation(conversations, step_batch)
        return batch


def encode_fitting(
    encoder: ConversationEncoder,
    policy: OverLengthPolicy,
    decoded: Sequence[Decoded],
    step_batch: StepBatch,
    *,
    side: Side,
    for_generation: bool = False,
) -> TokenBatch | None:
    """Encode conversations after the over-length policy has been applied to those that need it.

    What was dropped or changed is noted in `step_batch`. None where nothing is left.
    """
    if not decoded:
        return None
    batch = _encode(encoder, decoded, side, for_generation)
    if policy.max_length is None or max(batch.lengths) <= policy.max_length:
        return batch
    fitted: list[Decoded] = []
    for (conversation, images), length in zip(decoded, batch.lengths, strict=True):
        if length <= policy.max_length:
            fitted.append((conversation, images))
            continue
        result = policy.apply(conversation, images, for_generation=for_generation)
        (step_batch.dropped if result is None else step_batch.changed).append(conversation.id)
        if result is not None:
            fitted.append(result)
    return _encode(encoder, fitted, side, for_generation) if fitted else None


def _encode(encoder: ConversationEncoder, decoded: Sequence[Decoded], side: Side, for_generation: bool) -> TokenBatch:
    conversations, images = zip(*decoded, strict=True)
    return encoder.encode(conversations, images, side=side, for_generation=for_generation)


def without_pixels(conversation: Conversation) -> Conversation:
    """The conversation with references to its images alone: decoded pixels stay in the worker."""
    images = tuple(ref if ref.path is not None else replace(ref, pixels=None) for ref in conversation.images)
    return replace(conversation, images=images)


def _dropped_in_evaluation(conversations: Sequence[Conversation], step_batch: StepBatch) -> RecordError:
    first = next(c for c in conversations if c.id in step_batch.dropped)
    return RecordError(
        "the question is longer than max_length and would be dropped",
        remedy="An evaluation may not leave questions out: raise max_length, or set over_length to trim_text.",
        file=first.file,
        record=first.record,
        code=TOO_LONG,
    )
