"""Tests of placing: near duplicates on one split, and no picture moved by what is added."""

from __future__ import annotations

import hashlib
import random

import pytest

from vlm_lit.curation.likeness import Likeness, near_pairs
from vlm_lit.curation.placing import SPLITS, Placing, across_splits


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def hashes(n: int, seed: int = 0) -> dict[str, tuple[int, ...]]:
    draw = random.Random(seed)
    return {digest(k): tuple(draw.getrandbits(64) for _ in range(3)) for k in range(n)}


def placed(pictures: dict[str, tuple[int, ...]], *, seed: int = 0, val: float = 0.2, test: float = 0.2) -> Placing:
    placing = Placing(Likeness(pictures, 4), val=val, test=test, seed=seed)
    for name in pictures:
        placing.split_for([name])
    return placing


def near(one: tuple[int, ...], bits: int) -> tuple[int, ...]:
    return (one[0] ^ ((1 << bits) - 1), *one[1:])


@pytest.mark.parametrize("distance", [0, 4, 9])
def test_near_pairs_are_those_of_a_plain_loop(distance: int) -> None:
    table = list(hashes(40).values())
    draw = random.Random(1)
    table += [near(draw.choice(table), draw.randrange(12)) for _ in range(300)]
    table += [near(draw.choice(table)[::-1], draw.randrange(12))[::-1] for _ in range(300)]  # in the last channel

    def differ(a: int, b: int) -> bool:
        return any((x ^ y).bit_count() > distance for x, y in zip(table[a], table[b], strict=True))

    slow = [(a, b) for a in range(len(table)) for b in range(a + 1, len(table)) if not differ(a, b)]
    assert sorted(near_pairs(table, distance)) == slow
    assert slow


def test_shares_are_about_those_asked_for_and_follow_from_the_seed() -> None:
    pictures = hashes(3000)
    of = placed(pictures).split_of
    counts = [sum(split == name for split in of.values()) / 3000 for name in SPLITS]
    assert counts == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    assert placed(pictures).split_of == of
    assert placed(pictures, seed=1).split_of != of


def test_a_larger_share_takes_from_the_others_only() -> None:
    pictures = hashes(1000)
    small, large = placed(pictures, test=0.1).split_of, placed(pictures, test=0.2).split_of
    assert all(large[name] == "test" for name, split in small.items() if split == "test")


def test_other_pictures_between_move_none() -> None:
    pictures = hashes(500)
    more = hashes(500, seed=1)
    mixed = dict(sorted([*pictures.items(), *((digest(f"more {k}"), h) for k, h in enumerate(more.values()))]))
    after = placed(mixed).split_of
    assert all(after[name] == split for name, split in placed(pictures).split_of.items())


def test_near_duplicates_join_the_earlier_one() -> None:
    pictures = hashes(200)
    grown = pictures | {digest(f"near {k}"): near(one, 4) for k, one in enumerate(pictures.values())}
    before, after = placed(pictures).split_of, placed(grown).split_of
    for k, name in enumerate(pictures):
        assert after[name] == before[name] == after[digest(f"near {k}")]


def on_two_splits(pictures: dict[str, tuple[int, ...]]) -> tuple[str, str]:
    """A picture of train and one of test."""
    of = placed(pictures).split_of
    return next(k for k, v in of.items() if v == "train"), next(k for k, v in of.items() if v == "test")


def test_what_is_like_two_splits_can_stand_on_none() -> None:
    pictures = hashes(50)
    a, b = on_two_splits(pictures)
    pictures[b] = near(pictures[a], 8)
    bridge = digest("between")
    grown = pictures | {bridge: near(pictures[a], 4)}
    placing = placed(grown)
    assert bridge not in placing.split_of
    assert placing.splits_near([bridge]) == {"train", "test"}
    assert placing.split_of == placed(pictures).split_of


def test_a_row_with_pictures_of_two_splits_can_stand_on_none() -> None:
    pictures = hashes(50)
    placing = placed(pictures)
    assert placing.split_for(on_two_splits(pictures)) is None


def test_held_pictures_stay_whatever_comes_first() -> None:
    pictures = hashes(300)
    of = placed(pictures).split_of
    first = {digest(f"near {k}"): near(one, 3) for k, one in enumerate(pictures.values())}
    placing = Placing(Likeness(first | pictures, 4), val=0.2, test=0.2, seed=0)
    placing.hold(of)
    for name in (*first, *pictures):
        placing.split_for([name])
    assert {name: placing.split_of[name] for name in of} == of
    assert across_splits(placing.likeness, {name: {split} for name, split in placing.split_of.items()}) == (0, 0)


def test_across_splits_counts_pictures() -> None:
    pictures = hashes(10)
    names = list(pictures)
    pictures[names[1]] = near(pictures[names[0]], 2)
    splits = {name: {"train"} for name in names} | {names[1]: {"test"}, names[5]: {"train", "val"}}
    assert across_splits(Likeness(pictures, 4), splits) == (1, 2)
    assert across_splits(Likeness(pictures, None), splits) == (1, 0)
