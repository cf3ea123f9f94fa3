"""Collators: from a list of conversations to what Lightning calls a batch.

In training that is a step batch: everything one optimizer step sees on this rank, cut into micro-batches. In
evaluation it is a batch of prompts. The rows of one batch have equally many images: a row without any
costs no tower pass, and in Llama-3.2-Vision rows of unequal counts would change each other's logits. A bad record
travels back as a value: raised inside a worker it would reach the user as a page of traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress, groupby

import torch
from PIL import Image
from torch import Tensor

from vlm_lit.data.conversations.conversations import can_be_learned
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import Picture, features_of
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.encoding import ConversationEncoder, Encoder, Side
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.packing import grouped, size_of
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import Conversation, EvaluationBatch, PromptBatch, StepBatch, TokenBatch

Decoded = tuple[Conversation, list[Image.Image]]


Group = Sequence[Conversation]


class MicroBatch:
    """How many rows a forward pass takes: a number that the training process may lower while workers read it."""

    def __init__(self, rows: int) -> None:
        self._rows: Tensor = torch.tensor([rows]).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def rows(self) -> int:
        """Most rows of one forward pass."""
        return int(self._rows)

    @rows.setter
    def rows(self, rows: int) -> None:
        self._rows[0] = rows


class StepCollator:
    """Makes a step batch of micro-batches, rows of alike length together.

    Args:
        encoder: makes padded batches.
        policy: what happens to over-length conversations.
        micro_batch: most rows of one forward pass; workers that share a `MicroBatch` see it shrink.
        packing: let conversations that show the same images share a row.
        micro_tokens: most tokens of one forward pass of several rows, padding included; null for no limit.
        store: where images may be found that need not be looked at again.
    """

    def __init__(
        self,
        encoder: ConversationEncoder,
        policy: OverLengthPolicy,
        micro_batch: int | MicroBatch,
        *,
        packing: bool = False,
        micro_tokens: int | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        self.encoder, self.policy, self.micro_tokens, self.store = encoder, policy, micro_tokens, store
        self.micro_batch = micro_batch if isinstance(micro_batch, MicroBatch) else MicroBatch(micro_batch)
        self.shared = SharedRowEncoder(encoder) if packing and isinstance(encoder, Encoder) else None

    def __call__(self, conversations: Sequence[Conversation]) -> StepBatch | RecordError:
        """Collate a step batch; the error of a bad record is returned, not raised."""
        try:
            return self._collate(conversations)
        except RecordError as error:
            return error

    def _collate(self, conversations: Sequence[Conversation]) -> StepBatch:
        step_batch = StepBatch(rows=self.micro_batch.rows)
        large = [self.store is None and self.policy.pictures_too_long(c) for c in conversations]
        for conversation in compress(conversations, large):
            step_batch.micro_batches += self._fitted(conversation, sys.maxsize, step_batch)
        conversations = [c for c, shrunk in zip(conversations, large, strict=True) if not shrunk]
        keys = [self.shared.key(c) if self.shared is not None else None for c in conversations]
        for chunk in _chunks(sorted(grouped(conversations, keys), key=_size), step_batch.rows):
            step_batch.micro_batches += self._batches(chunk, step_batch)
        step_batch.supervised_tokens = sum(batch.supervised_tokens for batch in step_batch.micro_batches)
        return step_batch

    def _batches(self, groups: Sequence[Group], step_batch: StepBatch) -> Iterator[TokenBatch]:
        """One batch of a row a group, or several where that would be longer than is allowed."""
        batch = self._encode(groups)
        longest = self.policy.longest_row(batch.lengths)
        if self.micro_tokens is not None and len(groups) > 1 and batch.inputs["input_ids"].numel() > self.micro_tokens:
            middle = len(groups) // 2
            yield from self._batches(groups[:middle], step_batch)
            yield from self._batches(groups[middle:], step_batch)
            return
        if longest is None or (batch.inputs["input_ids"].shape[1] <= longest and max(batch.lengths) <= longest):
            yield batch
            return
        lengths = dict(zip(batch.ids, batch.lengths, strict=True))
        too_long = {name for name, length in lengths.items() if length > longest}
        if too_long:
            for conversation in (c for group in groups for c in group if c.id in too_long):
                yield from self._fitted(conversation, lengths[conversation.id], step_batch)
            rest: list[Group] = [[c for c in group if c.id not in too_long] for group in groups]
        else:  # only because they share a row
            rest = [group[: -(-len(group) // 2)] for group in groups]
            second = [group[len(half) :] for group, half in zip(groups, rest, strict=True)]
            yield from self._batches([group for group in second if group], step_batch)
        if any(rest):
            yield from self._batches([group for group in rest if group], step_batch)

    def _fitted(self, conversation: Conversation, length: int, step_batch: StepBatch) -> list[TokenBatch]:
        """A batch of one conversation that is too long, unless it is dropped."""
        decoded = [(conversation, load_images(conversation))]
        found = encode_fitting(self.encoder, self.policy, decoded, step_batch, side="right", lengths=[length])
        return [found] if found is not None else []

    def _encode(self, groups: Sequence[Group]) -> TokenBatch:
        images = _pictures([group[0] for group in groups], self.store)
        if self.shared is not None and any(len(group) > 1 for group in groups):
            batch = self.shared.encode(groups, images)
        else:
            batch = self.encoder.encode([c for group in groups for c in group], images, side="right")
        return replace(batch, features=features_of(images))


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
        keys = [self.shared.key(c, for_generation=True) if self.shared is not None else None for c in conversations]
        groups = sorted(grouped(conversations, keys), key=_size)
        batches = [self._batch(chunk) for chunk in _chunks(groups, len(groups))]
        return EvaluationBatch(batches=batches, ids=[c.id for c in conversations])

    def _batch(self, groups: Sequence[Group]) -> PromptBatch:
        conversations = [c for group in groups for c in group]
        batch = self._shared(groups) or self._stored(conversations) or self._decoded(conversations)
        # Decoded pixels stay in the worker: the conversation travels with references to its images only.
        return PromptBatch(
            inputs=batch.inputs,
            conversations=[_without_pixels(c) for c in conversations],
            segments=batch.segments,
            features=batch.features,
        )

    def _shared(self, groups: Sequence[Group]) -> TokenBatch | None:
        """A row a group; None where rows may not be shared, or a prompt is too long."""
        if self.shared is None:
            return None
        pictures = _pictures([group[0] for group in groups], self.store)
        batch = self.shared.encode(groups, pictures, for_generation=True)
        segments = torch.zeros_like(batch.inputs["input_ids"]) if batch.segments is None else batch.segments
        return replace(batch, segments=segments, features=features_of(pictures)) if self._fits(batch) else None

    def _stored(self, conversations: Sequence[Conversation]) -> TokenBatch | None:
        """A row a prompt without its pixels; None where they are not stored, or a prompt is too long."""
        stored = self.store.found(conversations) if self.store is not None else None
        if stored is None:
            return None
        batch = self.encoder.encode(conversations, stored, side="left", for_generation=True)
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


def _pictures(conversations: Sequence[Conversation], store: FeatureStore | None) -> Sequence[Sequence[Picture]]:
    """The images of each, from the store if all are there, else decoded."""
    stored = store.found(conversations) if store is not None else None
    return stored if stored is not None else [load_images(c) for c in conversations]


def _chunks(groups: Sequence[Group], most: int) -> Iterator[Sequence[Group]]:
    """Neighbours with equally many images, at most `most` at a time."""
    for _, alike in groupby(groups, key=lambda group: len(group[0].images)):
        row = list(alike)
        yield from (row[at : at + most] for at in range(0, len(row), most))


def encode_fitting(
    encoder: ConversationEncoder,
    policy: OverLengthPolicy,
    decoded: Sequence[Decoded],
    step_batch: StepBatch,
    *,
    side: Side,
    for_generation: bool = False,
    lengths: Sequence[int] | None = None,
) -> TokenBatch | None:
    """Encode conversations after the over-length policy has been applied to those that need it.

    What was dropped or changed is noted in `step_batch`. None where nothing is left. No image is processed merely for
    `lengths` that are known to be too much.
    """
    if not decoded:
        return None
    if lengths is None or policy.max_length is None or max(lengths) <= policy.max_length:
        batch = _encode(encoder, decoded, side, for_generation)
        if policy.max_length is None or max(batch.lengths) <= policy.max_length:
            return batch
        lengths = batch.lengths
    fitted: list[Decoded] = []
    for (conversation, images), length in zip(decoded, lengths, strict=True):
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


def _size(group: Group) -> tuple[int, int]:
    return len(group[0].images), sum(size_of(conversation)[1] for conversation in group)


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
    )
