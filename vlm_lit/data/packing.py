"""Which conversations may share a row, and what does the shared row look like?

Conversations share a row when they show the same images after the same words: their rows then begin with the same
tokens, which stand in the shared row once, followed by each conversation's own rest. How the model is told who sees
whom is `models/attention.py`'s matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from vlm_lit.data.encoding import Row
from vlm_lit.schema import Conversation, ImageRef


def image_key(conversation: Conversation) -> str | None:
    """What names a conversation's images by their place or content; None without images, or with loose pixels."""
    names = [_name(image) for image in conversation.images]
    return "|".join(str(name) for name in names) if names and None not in names else None


def _name(image: ImageRef) -> str | None:
    if image.path is not None:
        return str(image.path)
    return hashlib.sha256(image.data).hexdigest() if image.data is not None else None


def grouped(conversations: Sequence[Conversation], keys: Sequence[Hashable | None]) -> list[list[Conversation]]:
    """Conversations of one key together, in order of first appearance; those without a key alone."""
    groups: dict[Hashable, list[Conversation]] = {}
    for position, (conversation, key) in enumerate(zip(conversations, keys, strict=True)):
        groups.setdefault(("alone", position) if key is None else ("shared", key), []).append(conversation)
    return list(groups.values())


def likely_longest(
    conversations: Sequence[Conversation], keys: Sequence[Hashable | None], most: int, count: int
) -> list[Conversation]:
    """The conversations of the `count` rows that are likely to be longest, where a row takes up to `most` of one key.

    Judged by images and letters: to know a row's length one has to process its images.
    """
    rows = [group[at : at + most] for group in grouped(conversations, keys) for at in range(0, len(group), most)]
    rows.sort(key=lambda row: (len(row[0].images), sum(len(t.text) for c in row for t in c.turns)), reverse=True)
    return [conversation for row in rows[:count] for conversation in row]


def packed(rows: Sequence[Row]) -> tuple[Row, Tensor]:
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
    return Row(fields, supervised), torch.repeat_interleave(torch.arange(len(rows) + 1), sizes)


def _common(rows: Sequence[Row]) -> int:
    first = rows[0].fields["input_ids"]
    length = min(row.supervised.index(True) if True in row.supervised else len(row) for row in rows) - 1
    for row in rows[1:]:
        ids = row.fields["input_ids"][:length]
        different = (ids != first[: len(ids)]).nonzero()
        length = min(length, len(ids), int(different[0]) if len(different) else length)
    return length
