"""Collator of training: from a list of conversations to a step batch.

A step batch is everything one optimizer step sees on this rank, cut into micro-batches. The rows of one batch have
equally many images, in an evaluation as well (`prompt_collate.py`): a row without any costs no tower pass, and in
Llama-3.2-Vision rows of unequal counts would change each other's logits. A bad record travels back as a value: raised
inside a worker it would reach the user as a page of traceback.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import compress, islice

from PIL import Image

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import ImageInput, features_of
from vlm_lit.data.grouping import grouped
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder, Written
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.row_groups import EncodedGroup, RowGroup, chunks, encoded_group, padded_groups
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

    def collate(self, units: Sequence[Unit], beside: Sequence[Conversation] = ()) -> StepBatch:
        """Collate units, none of which is parted. The conversations of one show the same images behind the same turns.

        Args:
            units: the units.
            beside: for each unit a conversation that belongs to it and shows other images, as many, behind the same
                turns; empty where units have none.

        Raises:
            RecordError: a record that cannot be used.
        """
        step_batch = StepBatch(rows=self.micro_batch.rows)
        parted = list(zip(units, _each(beside) or [()] * len(units), strict=True))
        large = [self.store is None and any(map(self.policy.pictures_too_long, (u[0], *more))) for u, more in parted]
        for unit, more in compress(parted, large):
            step_batch.micro_batches += self._batch_of(self._fitted(unit, _longest_said(unit), more, step_batch))
        written = [
            (self._written(unit), self._written(more))
            for (unit, more), shrunk in zip(parted, large, strict=True)
            if not shrunk
        ]
        groups = [
            RowGroup(
                tuple(unit for unit, _ in together),
                shared=len(together) > 1 or self._key(together[0][0]) is not None,
                beside=tuple(one for _, more in together for one in more),
            )
            for together in grouped(written, [self._key(unit) for unit, _ in written])
        ]
        groups = [part for group in groups for part in group.within(step_batch.rows)]
        for chunk in chunks(sorted(groups, key=lambda group: group.size), step_batch.rows):
            step_batch.micro_batches += self._batches(chunk, step_batch)
        step_batch.weight = sum(batch.weight for batch in step_batch.micro_batches)
        return step_batch

    def _written(self, conversations: Unit) -> tuple[Written, ...]:
        return tuple(self.encoder.write(conversation) for conversation in conversations)

    def _key(self, unit: Sequence[Written]) -> Hashable | None:
        """What units must have in common to share a row; None for a unit whose conversations cannot."""
        if self.shared is None:
            return None
        keys = {self.shared.key(written) for written in unit}
        return keys.pop() if len(keys) == 1 else None

    def _batches(self, groups: Sequence[RowGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        """One batch of these groups, or several where that would be longer than is allowed."""
        images = images_of([conversation for group in groups for conversation in group.pictured], self.store)
        if self.micro_tokens is None and all(group.rows == 1 for group in groups):
            # No cut is likely: one call of the processor for all of them.
            batch = self._together(groups, images)
            if self._fits(batch):
                yield batch
                return
        left = iter(images)
        encoded = [self._encoded(group, list(islice(left, len(group.pictured)))) for group in groups]
        yield from self._arranged(encoded, step_batch)

    def _together(self, groups: Sequence[RowGroup], images: Sequence[Sequence[ImageInput]]) -> TokenBatch:
        if self.shared is not None:
            return self.shared.encode(groups, images)
        batch = self.encoder.encode_written([group.written[0] for group in groups], images, side="right")
        return replace(batch, features=features_of(images))

    def _fits(self, batch: TokenBatch) -> bool:
        limit = self.policy.longest_row(batch.lengths)
        return limit is None or (batch.labels.shape[1] <= limit and max(batch.lengths) <= limit)

    def _encoded(self, group: RowGroup, images: Sequence[Sequence[ImageInput]]) -> EncodedGroup:
        """A group with its rows; `images` are its own, and those of each conversation beside its units."""
        own, *others = images
        rows, fields = self.encoder.rows_alike(group.written, own)
        made = encoded_group(group, rows, fields, features_of([own]) or ())
        alone = [RowGroup(((one,),), group.shared) for one in group.beside]
        beside = tuple(self._encoded(one, [shown]) for one, shown in zip(alone, others, strict=True))
        return replace(made, beside=beside)

    def _arranged(self, groups: Sequence[EncodedGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        """Batches of encoded groups, none longer than is allowed."""
        lengths = [length for group in groups for length in group.lengths]
        limit = self.policy.longest_row([longest for group in groups for longest in group.longest])
        if self.micro_tokens is not None and len(lengths) * max(lengths) > self.micro_tokens:
            halves = _halves(groups)
            for half in halves:
                yield from self._arranged(half, step_batch)
            if halves:
                return
        if limit is None or max(lengths) <= limit:
            yield padded_groups(groups, self.encoder.tokenizer)
            return
        if max(longest for group in groups for longest in group.longest) > limit:
            for one in (unit for group in groups for unit in group.each() if unit.longest[0] > limit):
                yield from self._batch_of(self._refitted(one, step_batch))
            rest = [
                group.of([u for u, n in zip(group.units, group.longest, strict=True) if n <= limit]) for group in groups
            ]
        else:  # only because they share a row
            halved = [group.halves() for group in groups]
            yield from self._some([second for _, second in halved], step_batch)
            rest = [first for first, _ in halved]
            rest = [half if len(half.units) > 1 or max(half.lengths) <= limit else half.apart() for half in rest]
        yield from self._some(rest, step_batch)

    def _some(self, groups: Sequence[EncodedGroup], step_batch: StepBatch) -> Iterator[TokenBatch]:
        left = [group for group in groups if group.units]
        yield from self._arranged(left, step_batch) if left else ()

    def _batch_of(self, fitted: EncodedGroup | None) -> list[TokenBatch]:
        return [] if fitted is None else [padded_groups([fitted], self.encoder.tokenizer)]

    def _refitted(self, group: EncodedGroup, step_batch: StepBatch) -> EncodedGroup | None:
        """The same of a group of one unit, whose lengths are known."""
        (unit,) = group.units
        longest = max(range(len(unit)), key=lambda i: len(unit[i].row))
        beside = [one.conversation for other in group.beside for one in other.members]
        return self._fitted([one.conversation for one in unit], longest, beside, step_batch)

    def _fitted(self, unit: Unit, longest: int, beside: Unit, step_batch: StepBatch) -> EncodedGroup | None:
        """A unit after the over-length policy has been applied to it; None where it is dropped, all of it.

        Args:
            unit: the unit.
            longest: which of its conversations has most tokens.
            beside: the conversation beside it, if it has one.
            step_batch: what was dropped or changed is noted in it.
        """
        if beside:
            fitted = self.policy.apply_to_unit_with(unit, longest, beside[0])
        else:
            found = self.policy.apply_to_unit(unit, longest, load_images(unit[0]))
            fitted = None if found is None else (found[0], [], [found[1]])
        (step_batch.dropped if fitted is None else step_batch.changed).extend(one.id for one in unit)
        if fitted is None:
            return None
        conversations, others, images = fitted
        written = self._written(conversations)
        shared = len(written) > 1 and self._key(written) is not None
        made = self._encoded(RowGroup((written,), shared, self._written(others)), images)
        return made if not shared or max(made.lengths) <= (self.policy.max_length or 0) else made.apart()


def images_of(conversations: Sequence[Conversation], store: FeatureStore | None) -> Sequence[Sequence[ImageInput]]:
    """The images of each, from the store if all are there, else decoded."""
    stored = store.found(conversations) if store is not None else None
    return stored if stored is not None else [load_images(c) for c in conversations]


def _each(conversations: Sequence[Conversation]) -> list[tuple[Conversation, ...]]:
    return [(one,) for one in conversations]


def _longest_said(unit: Unit) -> int:
    return max(range(len(unit)), key=lambda i: sum(len(turn.text) for turn in unit[i].turns))


def _halves(groups: Sequence[EncodedGroup]) -> Sequence[Sequence[EncodedGroup]]:
    """Both halves of a batch that is too large; none where it cannot be cut."""
    if len(groups) > 1:
        middle = len(groups) // 2
        return groups[:middle], groups[middle:]
    (group,) = groups
    # Units in one row would show their images twice; what stands beside them has rows of its own in any case.
    return [[half] for half in group.halves()] if group.beside and len(group.units) > 1 else ()
