"""Collators: from a list of conversations to what Lightning calls a batch.

In training that is a step batch: everything one optimizer step sees on this rank, cut into micro-batches. In
evaluation it is a batch of prompts. The rows of one batch have equally many images: a row without any
costs no tower pass, and in Llama-3.2-Vision rows of unequal counts would change each other's logits. A bad record
travels back as a value: raised inside a worker it would reach the user as a page of traceback.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image

from vlm_lit.data.conversations.conversations import can_be_learned
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import ImageInput, features_of
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder, Written
from vlm_lit.data.rows.encoded_rows import Side
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.rows.over_length import TOO_LONG, OverLengthPolicy
from vlm_lit.data.rows.packing import grouped
from vlm_lit.data.rows.row_groups import Encoded, EncodedGroup, RowGroup, chunks, encoded_group, padded_groups
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import Conversation, EvaluationBatch, PromptBatch, StepBatch, TokenBatch

Decoded = tuple[Conversation, list[Image.Image]]
Unit = Sequence[Conversation]


class StepCollator:
    """Makes a step batch of micro-batches, rows of alike length together.

    Lengths are known before anything is padded: a conversation is rendered once and, where batches are cut by their
    tokens, its images are processed once, whatever the batches come to be.

    Args:
        encoder: makes padded batches.
        policy: what happens to over-length conversations.
        micro_batch: most rows of one forward pass; workers that share a `MicroBatchSize` see it shrink.
        packing: let conversations that show the same images share a row.
        micro_tokens: most tokens of one forward pass of several rows, padding included; null for no limit.
        store: where images may be found that need not be looked at again.
    """

    def __init__(
        self,
        encoder: ConversationEncoder,
        policy: OverLengthPolicy,
        micro_batch: int | MicroBatchSize,
        *,
        packing: bool = False,
        micro_tokens: int | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        self.encoder, self.policy, self.micro_tokens, self.store = encoder, policy, micro_tokens, store
        self.micro_batch = micro_batch if isinstance(micro_batch, MicroBatchSize) else MicroBatchSize(micro_batch)
        self.shared = SharedRowEncoder(encoder) if packing and isinstance(encoder, Encoder) else None

    def __call__(self, conversations: Sequence[Conversation]) -> StepBatch | RecordError:
        """Collate a step batch; the error of a bad record is returned, not raised."""
        try:
            return self.collate([(conversation,) for conversation in conversations])
        except RecordError as error:
            return error

    def collate(self, units: Sequence[Unit]) -> StepBatch:
        """Collate units, none of which is parted. The conversations of one show the same images behind the same turns.

        Raises:
            RecordError: a record that cannot be used.
        """
        step_batch = StepBatch(rows=self.micro_batch.rows)
        written = [tuple(self.encoder.write(conversation) for conversation in unit) for unit in units]
        keys = [self._key(unit) for unit in written]
        groups = [
            RowGroup(tuple(together), shared=len(together) > 1 or self._key(together[0]) is not None)
            for together in grouped(written, keys)
        ]
        for chunk in chunks(sorted(groups, key=lambda group: group.size), step_batch.rows):
            step_batch.micro_batches += self._batches(chunk, step_batch)
        step_batch.weight = sum(batch.weight for batch in step_batch.micro_batches)
        return step_batch

    def _key(self, unit: Sequence[Written]) -> Hashable | None:
        """What units must have in common to share a row; None for a unit whose conversations cannot."""
        if self.shared is None:
            return None
        keys = {self.shared.key(written) for written in unit}
        return keys.pop() if len(keys) == 1 else None

    def _batches(self, groups: Sequence[RowGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        """One batch of these groups, or several where that would be longer than is allowed."""
        images = _images_of([group.first for group in groups], self.store)
        if self.micro_tokens is None and all(group.rows == 1 for group in groups):
            # No cut is likely: one call of the processor for all of them.
            batch = self._together(groups, images)
            if self._fits(batch):
                yield batch
                return
        encoded = [self._encoded(group, shown) for group, shown in zip(groups, images, strict=True)]
        yield from self._arranged(encoded, step_batch)

    def _together(self, groups: Sequence[RowGroup], images: Sequence[Sequence[ImageInput]]) -> TokenBatch:
        if self.shared is not None:
            return self.shared.encode(groups, images)
        batch = self.encoder.encode_written([group.written[0] for group in groups], images, side="right")
        return replace(batch, features=features_of(images))

    def _fits(self, batch: TokenBatch) -> bool:
        limit = self.policy.longest_row(batch.lengths)
        return limit is None or (batch.labels.shape[1] <= limit and max(batch.lengths) <= limit)

    def _encoded(self, group: RowGroup, images: Sequence[ImageInput]) -> EncodedGroup:
        rows, fields = self.encoder.rows_alike(group.written, images)
        return encoded_group(group, rows, fields, features_of([images]) or ())

    def _arranged(self, groups: Sequence[EncodedGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        """Batches of encoded groups, none longer than is allowed."""
        lengths = [length for group in groups for length in group.lengths]
        limit = self.policy.longest_row([_longest(unit) for group in groups for unit in group.units])
        if self.micro_tokens is not None and len(groups) > 1 and len(lengths) * max(lengths) > self.micro_tokens:
            middle = len(groups) // 2
            yield from self._arranged(groups[:middle], step_batch)
            yield from self._arranged(groups[middle:], step_batch)
            return
        too_long = [unit for group in groups for unit in group.units if limit is not None and _longest(unit) > limit]
        if limit is None or (not too_long and max(lengths) <= limit):
            yield padded_groups(groups, self.encoder.tokenizer)
            return
        if too_long:
            for unit in too_long:
                fitted = self._fitted(unit, step_batch)
                yield from [] if fitted is None else [padded_groups([fitted], self.encoder.tokenizer)]
            rest = [group.of([unit for unit in group.units if _longest(unit) <= limit]) for group in groups]
        else:  # only because they share a row
            rest = [group.of(group.units[: -(-len(group.units) // 2)]) for group in groups]
            second = [group.of(group.units[len(half.units) :]) for group, half in zip(groups, rest, strict=True)]
            yield from self._some(second, step_batch)
            rest = [half if len(half.units) > 1 or max(half.lengths) <= limit else half.apart() for half in rest]
        yield from self._some(rest, step_batch)

    def _some(self, groups: Sequence[EncodedGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        left = [group for group in groups if group.units]
        yield from self._arranged(left, step_batch) if left else ()

    def _fitted(self, unit: Sequence[Encoded], step_batch: StepBatch) -> EncodedGroup | None:
        """A unit after the over-length policy has been applied to it; None where it is dropped, all of it."""
        conversations = [one.conversation for one in unit]
        longest = max(range(len(unit)), key=lambda i: len(unit[i].row))
        fitted = self.policy.apply_to_unit(conversations, longest, load_images(conversations[0]))
        (step_batch.dropped if fitted is None else step_batch.changed).extend(one.id for one in conversations)
        if fitted is None:
            return None
        written = tuple(self.encoder.write(conversation) for conversation in fitted[0])
        shared = len(written) > 1 and self._key(written) is not None
        made = self._encoded(RowGroup((written,), shared), fitted[1])
        return made if not shared or max(made.lengths) <= (self.policy.max_length or 0) else made.apart()


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
        # Decoded pixels stay in the worker: the conversation travels with references to its images only.
        return PromptBatch(
            inputs=batch.inputs,
            conversations=[_without_pixels(c) for c in conversations],
            segments=batch.segments,
            features=batch.features,
        )

    def _shared(self, groups: Sequence[RowGroup]) -> TokenBatch | None:
        """A row a group; None where rows may not be shared, or a prompt is too long."""
        if self.shared is None:
            return None
        batch = self.shared.encode(groups, _images_of([group.first for group in groups], self.store))
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


def _images_of(conversations: Sequence[Conversation], store: FeatureStore | None) -> Sequence[Sequence[ImageInput]]:
    """The images of each, from the store if all are there, else decoded."""
    stored = store.found(conversations) if store is not None else None
    return stored if stored is not None else [load_images(c) for c in conversations]


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


def _longest(unit: Sequence[Encoded]) -> int:
    return max(len(one.row) for one in unit)


def _without_pixels(conversation: Conversation) -> Conversation:
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
