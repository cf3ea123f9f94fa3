"""Collator of training: from a list of conversations to a step batch.

A step batch is everything one optimizer step sees on this rank, cut into micro-batches. The rows of one batch have
equally many images, in an evaluation as well (`prompt_collate.py`): a row without any costs no tower pass, and in
Llama-3.2-Vision rows of unequal counts would change each other's logits. A bad record travels back as a value: raised
inside a worker it would reach the user as a page of traceback.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import compress

from PIL import Image

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import ImageInput, features_of
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder, Written
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.packing import grouped
from vlm_lit.data.rows.row_groups import Encoded, EncodedGroup, RowGroup, chunks, encoded_group, padded_groups
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, StepBatch, TokenBatch

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
        large = [self.store is None and self.policy.pictures_too_long(unit[0]) for unit in units]
        for unit in compress(units, large):
            step_batch.micro_batches += self._batch_of(self._fitted(unit, _longest_said(unit), step_batch))
        units = [unit for unit, shrunk in zip(units, large, strict=True) if not shrunk]
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
        images = images_of([group.first for group in groups], self.store)
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
                longest = max(range(len(unit)), key=lambda i, unit=unit: len(unit[i].row))  # type: ignore[misc]
                yield from self._batch_of(self._fitted([one.conversation for one in unit], longest, step_batch))
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

    def _batch_of(self, fitted: EncodedGroup | None) -> list[TokenBatch]:
        return [] if fitted is None else [padded_groups([fitted], self.encoder.tokenizer)]

    def _fitted(self, conversations: Unit, longest: int, step_batch: StepBatch) -> EncodedGroup | None:
        """A unit after the over-length policy has been applied to it; None where it is dropped, all of it.

        Args:
            conversations: the unit.
            longest: which of them has most tokens.
            step_batch: what was dropped or changed is noted in it.
        """
        fitted = self.policy.apply_to_unit(conversations, longest, load_images(conversations[0]))
        (step_batch.dropped if fitted is None else step_batch.changed).extend(one.id for one in conversations)
        if fitted is None:
            return None
        written = tuple(self.encoder.write(conversation) for conversation in fitted[0])
        shared = len(written) > 1 and self._key(written) is not None
        made = self._encoded(RowGroup((written,), shared), fitted[1])
        return made if not shared or max(made.lengths) <= (self.policy.max_length or 0) else made.apart()


def images_of(conversations: Sequence[Conversation], store: FeatureStore | None) -> Sequence[Sequence[ImageInput]]:
    """The images of each, from the store if all are there, else decoded."""
    stored = store.found(conversations) if store is not None else None
    return stored if stored is not None else [load_images(c) for c in conversations]


def _longest_said(unit: Unit) -> int:
    return max(range(len(unit)), key=lambda i: sum(len(turn.text) for turn in unit[i].turns))


def _longest(unit: Sequence[Encoded]) -> int:
    return max(len(one.row) for one in unit)
