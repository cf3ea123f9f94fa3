"""Groups of units that show the same images: what a step batch is arranged from, before and after they are encoded.

A *unit* is one conversation or several that are never parted: they stay in one micro-batch, and the over-length policy
takes them as one. In supervised fine-tuning each conversation is a unit of its own; a pair of answers is a unit of two.
Units whose conversations begin alike can share a row, and a row that turns out too long is cut between units.
A unit may have a conversation *beside* it, which belongs to it and shows other images: it has a row of its own, behind
the rows of all groups of its micro-batch.

G = groups, B = rows, L = tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlm_lit.data.rows.conversation_encoder import Written
from vlm_lit.data.rows.encoded_rows import EncodedRow, assembled, padded
from vlm_lit.data.rows.packing import packed, shared_length, size_of
from vlm_lit.schema import Conversation, TokenBatch


@dataclass(frozen=True)
class RowGroup:
    """Written units that show the same images.

    Args:
        units: each unit's conversations.
        shared: whether they all stand in one row, rather than each in its own.
        beside: for each unit the conversation beside it; empty where units have none.
    """

    units: tuple[tuple[Written, ...], ...]
    shared: bool
    beside: tuple[Written, ...] = ()

    @property
    def written(self) -> list[Written]:
        """Its conversations, unit by unit."""
        return [one for unit in self.units for one in unit]

    @property
    def first(self) -> Conversation:
        """The conversation whose images are processed."""
        return self.units[0][0].conversation

    @property
    def pictured(self) -> list[Conversation]:
        """The conversations whose images are processed: the first, and each that stands beside a unit."""
        return [self.first, *(one.conversation for one in self.beside)]

    @property
    def rows(self) -> int:
        """How many rows it takes."""
        return (1 if self.shared else len(self.written)) + len(self.beside)

    @property
    def size(self) -> tuple[int, int]:
        """Its images, and the letters of all that is said in it."""
        return len(self.first.images), sum(size_of(one.conversation)[1] for one in self.written)

    def within(self, most: int) -> Iterator[RowGroup]:
        """The group, cut between units where conversations beside them would take it beyond `most` rows."""
        units = max(1, most - 1) if self.beside else len(self.units)
        for at in range(0, len(self.units), units):
            cut = slice(at, at + units)
            yield replace(self, units=self.units[cut], beside=self.beside[cut])


@dataclass(frozen=True)
class Encoded:
    """A conversation with its row of tokens, not padded."""

    conversation: Conversation
    row: EncodedRow


@dataclass(frozen=True)
class EncodedGroup:
    """Encoded units that show the same images.

    Args:
        units: each unit's conversations.
        shared: whether they all stand in one row.
        images: the processor's fields of their images, as it makes them for one row.
        features: what was kept of each of their images, where it is used in place of pixels.
        beside: for each unit the conversation beside it, as a group of its own; empty where units have none.
    """

    units: tuple[tuple[Encoded, ...], ...]
    shared: bool
    images: dict[str, Tensor]
    features: list[tuple[Tensor, ...]]
    beside: tuple[EncodedGroup, ...] = ()

    @property
    def members(self) -> list[Encoded]:
        """Its conversations, unit by unit."""
        return [one for unit in self.units for one in unit]

    @property
    def rows(self) -> list[list[EncodedRow]]:
        """Its rows, each as the conversations that share it."""
        rows = [one.row for one in self.members]
        return [rows] if self.shared else [[row] for row in rows]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each of its rows, those of the conversations beside its units among them."""
        return [shared_length(row) for group in (self, *self.beside) for row in group.rows]

    @property
    def longest(self) -> list[int]:
        """Tokens of each unit's longest conversation, the one beside it among them."""
        own = [max(len(one.row) for one in unit) for unit in self.units]
        return [max(n, *other.longest) for n, other in zip(own, self.beside, strict=True)] if self.beside else own

    def apart(self) -> EncodedGroup:
        """The group with a row for each conversation, for a unit that is too long for one."""
        return replace(self, shared=False)

    def each(self) -> Iterator[EncodedGroup]:
        """Its units, a group each."""
        return (self.of([unit]) for unit in self.units)

    def halves(self) -> tuple[EncodedGroup, EncodedGroup]:
        """The group cut in the middle between its units; the second half may be empty."""
        middle = -(-len(self.units) // 2)
        return self.of(self.units[:middle]), self.of(self.units[middle:])

    def of(self, units: Sequence[tuple[Encoded, ...]]) -> EncodedGroup:
        """The group with these of its units alone, and what stands beside them."""
        kept = {id(unit) for unit in units}
        beside = [other for unit, other in zip(self.units, self.beside, strict=False) if id(unit) in kept]
        return replace(self, units=tuple(units), beside=tuple(beside))


def chunks(groups: Sequence[RowGroup], most: int) -> Iterator[list[RowGroup]]:
    """Neighbours with equally many images, at most `most` rows at a time, and at least one group."""
    for _, alike in groupby(groups, key=lambda group: group.size[0]):
        chunk: list[RowGroup] = []
        for group in alike:
            if chunk and sum(one.rows for one in chunk) + group.rows > most:
                yield chunk
                chunk = []
            chunk.append(group)
        yield chunk


def encoded_group(
    group: RowGroup, rows: Sequence[EncodedRow], images: dict[str, Tensor], features: Sequence[tuple[Tensor, ...]]
) -> EncodedGroup:
    """A group with the rows of its conversations.

    Args:
        group: what was encoded.
        rows: a row for each of its conversations, in their order.
        images: the processor's fields of its images, each [N, ...].
        features: for each image what the tower hands to each of the projector's modules, [..., D].
    """
    left = iter(rows)
    units = tuple(tuple(Encoded(one.conversation, next(left)) for one in unit) for unit in group.units)
    return EncodedGroup(units, group.shared, images, list(features))


def padded_groups(
    groups: Sequence[EncodedGroup], tokenizer: PreTrainedTokenizerBase, images: dict[str, Tensor] | None = None
) -> TokenBatch:
    """Groups as one batch [B, L], padded on the right.

    Args:
        groups: G groups with equally many images.
        tokenizer: says what pads.
        images: the fields of all their images, where the processor made them in one call; None to join each group's.
    """
    groups = [*groups, *(other for group in groups for other in group.beside)]
    made = [packed(row) for group in groups for row in group.rows]
    members = [one for group in groups for one in group.members]
    fields = [group.images for group in groups for _ in group.rows]
    ids = [one.conversation.id for one in members]
    rest = joined(fields) if images is None else images
    batch = assembled([row for row, _ in made], rest, ids, tokenizer, "right")
    segments = padded([segment for _, segment in made], 0, "right")
    return replace(
        batch,
        lengths=[len(one.row) for one in members],
        segments=segments if bool(segments.any()) else None,
        features=[kept for group in groups for _ in group.rows for kept in group.features] or None,
    )


def joined(fields: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Image fields of rows that were processed alone, as a processor makes them for all the rows together.

    A field of row i is [N_i, ...]; joined it is [sum N_i, ...]. Processors pad what differs in size from row to row
    (tiles of an image, its height and width) with zeros behind it, and so does this.
    """
    return {name: _stacked([one[name] for one in fields]) for name in fields[0]}


def _stacked(values: Sequence[Tensor]) -> Tensor:
    """Tensors [N_i, ...] as one [sum N_i, ...], each other dimension as long as the longest."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    if all(list(value.shape[1:]) == shape for value in values):
        return torch.cat(list(values))
    filled = values[0].new_zeros(sum(len(value) for value in values), *shape)
    done = 0
    for value in values:
        filled[(slice(done, done + len(value)), *(slice(size) for size in value.shape[1:]))] = value
        done += len(value)
    return filled
