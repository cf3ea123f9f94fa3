"""Shared-image packing: which conversations may share a row, and how the shared row is built.

Conversations share a row when they show the same images after the same words: their rows then begin with the same
tokens, which stand in the shared row once, followed by each conversation's own rest. How the model is told who sees
whom is `models/attention.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from vlm_lit.data.grouping import grouped
from vlm_lit.data.rows.encoded_rows import EncodedRow
from vlm_lit.schema import Conversation, DataItem, ImageRef


def image_key(item: DataItem) -> str | None:
    """What names an item's images by their place or content; None without images, or with loose pixels."""
    names = [_name(image) for image in item.images]
    return "|".join(str(name) for name in names) if names and None not in names else None


def _name(image: ImageRef) -> str | None:
    if image.path is not None:
        return str(image.path)
    return image.digest


def size_of(conversation: Conversation) -> tuple[int, int]:
    """Its images, and the letters of all it says."""
    return len(conversation.images), sum(len(turn.text) for turn in conversation.turns)


def likely_longest(
    sizes: Sequence[tuple[int, int]], keys: Sequence[Hashable | None], most: int, count: int
) -> list[int]:
    """Which conversations the `count` rows hold that are likely to be longest, where a row takes up to `most` of a key.

    Args:
        sizes: images and letters of each conversation. To know a row's length one has to process its images.
        keys: what each shows, as in `grouped`.
        most: conversations that share a row.
        count: rows to find.
    """
    rows = [group[at : at + most] for group in grouped(range(len(sizes)), keys) for at in range(0, len(group), most)]
    rows.sort(key=lambda row: (sizes[row[0]][0], sum(sizes[i][1] for i in row)), reverse=True)
    return [i for row in rows[:count] for i in row]


def shared_length(rows: Sequence[EncodedRow]) -> int:
    """Tokens of the row that `packed` makes of these."""
    prefix = _common(rows) if len(rows) > 1 else 0
    return prefix + sum(len(row) - prefix for row in rows)


def packed(rows: Sequence[EncodedRow]) -> tuple[EncodedRow, Tensor]:
    """One row for several that begin alike, and the segment of each of its tokens [T].

    Of the common beginning a token is left to each segment, so that no segment begins with a supervised one: the token
    before it in the shared row is another question's.
    """
    if len(rows) == 1:
        return rows[0], torch.zeros(len(rows[0]), dtype=torch.long)
    prefix = _common(rows)
    pieces = [slice(0, prefix), *(slice(prefix, len(row)) for row in rows)]
    sources = [rows[0], *rows]
    fields = {
        name: torch.cat([source.fields[name][piece] for source, piece in zip(sources, pieces, strict=True)])
        for name in rows[0].fields
    }
    supervised = [flag for source, piece in zip(sources, pieces, strict=True) for flag in source.supervised[piece]]
    sizes = torch.tensor([prefix, *(len(row) - prefix for row in rows)])
    return EncodedRow(fields, supervised), torch.repeat_interleave(torch.arange(len(rows) + 1), sizes)


def _common(rows: Sequence[EncodedRow]) -> int:
    first = rows[0].fields["input_ids"]
    length = min(row.supervised.index(True) if True in row.supervised else len(row) for row in rows) - 1
    for row in rows[1:]:
        ids = row.fields["input_ids"][:length]
        different = (ids != first[: len(ids)]).nonzero()
        length = min(length, len(ids), int(different[0]) if len(different) else length)
    return length
