"""Likeness of pictures: which of them are the same file, and which have nearly the same perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 256  # hashes compared with all others at once: 40 MB at 20,000


class Likeness:
    """Classes of pictures that look the same, and the classes that are near each other.

    Args:
        hashes: of every picture, by its digest; empty ones are like themselves only.
        distance: bits in which near duplicates may differ, in each channel; None where only equal digests are alike.
    """

    def __init__(self, hashes: dict[str, tuple[int, ...]], distance: int | None) -> None:
        kinds: dict[tuple[int, ...], int] = {}
        self._of: dict[str, int] = {}
        for digest, hashed in hashes.items():
            looks = hashed if distance is not None and hashed else (len(kinds), -1)
            self._of[digest] = kinds.setdefault(looks, len(kinds))
        self.classes = len(kinds)
        self._near: dict[int, list[int]] = {}
        hashed_kinds = [(kind, at) for kind, at in kinds.items() if kind[-1] != -1]
        if distance is not None:
            for a, b in near_pairs([kind for kind, _ in hashed_kinds], distance):
                first, second = hashed_kinds[a][1], hashed_kinds[b][1]
                self._near.setdefault(first, []).append(second)
                self._near.setdefault(second, []).append(first)

    def class_of(self, digest: str) -> int:
        """The class of a picture."""
        return self._of[digest]

    def around(self, digest: str) -> Iterable[int]:
        """The picture's class, and those near it."""
        own = self._of[digest]
        return (own, *self._near.get(own, ()))


def near_pairs(hashes: Sequence[tuple[int, ...]], distance: int) -> list[tuple[int, int]]:
    """Pairs of positions whose hashes differ in at most `distance` bits of each channel."""
    if len(hashes) < 2:
        return []
    table = np.array(hashes, dtype=np.uint64)
    channels: list[NDArray[np.uint64]] = [np.ascontiguousarray(table[:, c]) for c in range(table.shape[1])]
    found: list[tuple[int, int]] = []
    for start in range(0, len(table), _BLOCK):
        stop = min(start + _BLOCK, len(table))
        first = np.bitwise_count(channels[0][start:stop, None] ^ channels[0][None, start:]) <= distance
        rows, columns = np.nonzero(first)
        rows, columns = rows + start, columns + start
        kept = rows < columns
        for channel in channels[1:]:
            kept &= np.bitwise_count(channel[rows] ^ channel[columns]) <= distance
        found += zip(rows[kept].tolist(), columns[kept].tolist(), strict=True)
    return found
