"""Placing of pictures on a split: near duplicates together, and no picture moved by what is added later.

Pictures are placed in the order of their rows. One that is like an earlier one goes where that one is; another starts a
group, whose split follows from the seed and from the digest of this first picture alone. So what is appended later
cannot move what was there: a group keeps its first picture. A picture that is like two earlier ones on different
splits can stand on neither, and its row is rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from vlm_lit.curation.likeness import Likeness

SPLITS: Final = ("train", "val", "test")


class Placing:
    """Which split each picture is on.

    Args:
        likeness: of all pictures.
        val: share of the groups for val.
        test: share of the groups for test.
        seed: what the choice follows from.
    """

    def __init__(self, likeness: Likeness, *, val: float, test: float, seed: int) -> None:
        self.likeness, self.val, self.test, self.seed = likeness, val, test, seed
        self.split_of: dict[str, str] = {}
        """The split of each picture that is placed, by its digest."""
        self._splits_at: dict[int, set[str]] = {}

    def hold(self, splits: Mapping[str, str]) -> None:
        """Place pictures where an earlier curation did."""
        for digest, split in splits.items():
            self._put(digest, split)

    def split_for(self, digests: Sequence[str], wanted: str | None = None) -> str | None:
        """The split of a row with these pictures, which are placed there; None where no split can have it.

        Args:
            digests: of its pictures.
            wanted: the split that its source says; None to go by its pictures.
        """
        there = self.splits_near(digests)
        if wanted is not None and not there <= {wanted}:
            return None
        if len(there) > 1:
            return None
        split = wanted or next(iter(there), None) or self.hashed(digests[0])
        for digest in digests:
            self._put(digest, split)
        return split

    def splits_near(self, digests: Collection[str]) -> set[str]:
        """The splits that these pictures or any like them are on."""
        there: set[str] = set()
        for digest in digests:
            if digest in self.split_of:
                there.add(self.split_of[digest])
                continue
            for kind in self.likeness.around(digest):
                there |= self._splits_at.get(kind, set())
        return there

    def hashed(self, digest: str) -> str:
        """The split of the group that begins with this picture."""
        number = int.from_bytes(hashlib.sha256(f"{self.seed}:{digest}".encode()).digest()[:8]) / 2**64
        if number < self.test:
            return "test"
        return "val" if number < self.test + self.val else "train"

    def _put(self, digest: str, split: str) -> None:
        if digest not in self.split_of:
            self.split_of[digest] = split
            self._splits_at.setdefault(self.likeness.class_of(digest), set()).add(split)


def across_splits(likeness: Likeness, splits_of: Mapping[str, Collection[str]]) -> tuple[int, int]:
    """How many pictures stand on several splits, and how many others are like one on another split.

    Args:
        likeness: of all pictures.
        splits_of: the splits of each picture by its digest.
    """
    there: dict[int, set[str]] = {}
    for digest, splits in splits_of.items():
        there.setdefault(likeness.class_of(digest), set()).update(splits)
    exact = {digest for digest, splits in splits_of.items() if len(splits) > 1}
    near = 0
    for digest in splits_of.keys() - exact:
        around = set().union(*(there.get(kind, set()) for kind in likeness.around(digest)))
        near += len(around) > 1
    return len(exact), near
