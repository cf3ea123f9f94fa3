"""Tests of corrupted pictures: what they show, what they follow from, and that they stay with their pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from tests.support import family_cases as cases
from tests.support.pair_cases import preferences, step
from vlm_lit.data.answers.corrupted import LARGEST_CROP, CorruptedAnswers, Corruption, cropped
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import IGNORE_INDEX, ImageRef, Preference, StepBatch

KINDS: tuple[Corruption, ...] = get_args(Corruption)
RAMP = Image.merge(
    "RGB", [Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90), Image.new("L", (256, 256))]
)


def shown(kind: Corruption, pairs: list[Preference], seed: int = 3) -> list[bytes]:
    made = CorruptedAnswers(kind, pairs, seed=seed)
    return [load_images(made(pair))[0].tobytes() for pair in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_picture_is_another(kind: Corruption) -> None:
    pairs = preferences(pictures=3)
    made = CorruptedAnswers(kind, pairs, seed=3)
    for pair in pairs:
        found = made(pair)
        assert (found.id, found.turns) == (f"{pair.id}/corrupted", pair.chosen.turns)
        (own,), (other,) = load_images(pair), load_images(found)
        assert kind == "shuffle" or other.size == own.size
        assert other.tobytes() != own.tobytes()


def test_a_crop_is_a_part_of_at_most_a_fifth_of_the_area_in_the_pictures_shape() -> None:
    shares, corners = [], []
    for seed in range(300):
        part = cropped(RAMP, seed)
        assert part.size == RAMP.size
        # The ramp's colours say where the part was.
        extrema: Any = part.getextrema()
        (low_y, high_y), (low_x, high_x), _ = extrema
        shares.append((high_y - low_y + 1) * (high_x - low_x + 1) / 256**2)
        corners.append((low_x, low_y))
        assert abs((high_y - low_y) - (high_x - low_x)) <= 2
    # Bicubic enlargement goes a little beyond the colours of the part.
    assert LARGEST_CROP * 0.9 < max(shares) < LARGEST_CROP * 1.03
    assert min(shares) < 0.01
    assert 0.08 < sum(shares) / len(shares) < 0.12
    assert min(x for x, _ in corners) < 8
    assert max(x for x, _ in corners) > 200
    assert cropped(Image.new("RGB", (1, 3)), 0).size == (1, 3)


def test_it_follows_from_the_seed_and_the_record_in_whatever_order() -> None:
    pairs = preferences(pictures=4)
    for kind in KINDS:
        whole = dict(zip([p.id for p in pairs], shown(kind, pairs), strict=True))
        made = CorruptedAnswers(kind, pairs, seed=3)
        for pair in reversed(pairs[2::3]):
            assert load_images(made(pair))[0].tobytes() == whole[pair.id]
    crops = shown("crop", pairs)
    assert len(set(crops)) == len(pairs)  # each record its own, of one picture too
    assert all(one != other for one, other in zip(crops, shown("crop", pairs, seed=4), strict=True))
    assert shown("blank", pairs) == shown("blank", pairs, seed=4)


def test_a_shuffle_shows_another_pairs_picture_to_all_pairs_about_one() -> None:
    pairs = preferences(pictures=4)
    own = [load_images(pair)[0].tobytes() for pair in pairs]
    others = shown("shuffle", pairs)
    assert set(others) == set(own)
    assert not any(one == other for one, other in zip(own, others, strict=True))
    assert len({*zip(own, others, strict=True)}) == 4
    with pytest.raises(ConfigError, match=r"data\.corrupt is shuffle, but all"):
        CorruptedAnswers("shuffle", preferences(pictures=1), seed=3)


def test_what_names_it_differs_where_it_does() -> None:
    pairs = preferences(pictures=3)
    for kind in KINDS:
        made, other = (CorruptedAnswers(kind, pairs, seed=seed) for seed in (3, 4))
        names = [str(made.names(pair)) for pair in pairs]
        assert len(set(names)) == {"blank": 1, "shuffle": 3, "crop": len(pairs)}[kind]
        assert (names != [str(other.names(pair)) for pair in pairs]) is (kind != "blank")


def test_a_pair_without_a_picture_is_refused() -> None:
    pair = replace(preferences()[0], images=(), file="a.json", record="3")
    with pytest.raises(RecordError, match=r"a\.json, record 3: the pair shows no picture"):
        CorruptedAnswers("crop", [pair], seed=3)(pair)
    broken = replace(pair, images=(ImageRef(data=b"no image"),))
    with pytest.raises(RecordError, match=r"a\.json, record 3: image 1 of 1"):
        CorruptedAnswers("crop", [broken], seed=3)(broken)


# In batches ----------------------------------------------------------------------------------------------------------


def together(found: StepBatch[PairBatch], answers: int = 3) -> None:
    """Each pair stands in one micro-batch, its answers in the places that the losses look for them."""
    for batch in found.micro_batches:
        names = [name.rpartition("/") for name in batch.ids]
        assert all(count == answers for count in Counter(pair for pair, _, _ in names).values()), batch.ids
        both = 2 * batch.weight
        assert [side for _, _, side in names[:both]] == ["chosen", "rejected"] * batch.weight
        assert [side for _, _, side in names[both:]] == ["corrupted"] * batch.weight
        assert [pair for pair, _, _ in names[both:]] == [pair for pair, _, _ in names[:both:2]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("rows", "micro_tokens"), [(1, None), (2, None), (3, None), (4, None), (8, 60), (8, 200)])
def test_three_answers_are_never_parted_and_rows_stay_few(
    kind: Corruption, packing: bool, rows: int, micro_tokens: int | None, tiny_llava: Path
) -> None:
    pairs = preferences(pictures=3)
    found = step(tiny_llava, pairs, rows=rows, packing=packing, corrupt=kind, micro_tokens=micro_tokens)
    together(found)
    assert found.weight == len(pairs)
    least = 2 if packing else 3
    for batch in found.micro_batches:
        assert len(batch.labels) <= max(rows, least)
        if micro_tokens is not None:
            assert batch.weight == 1 or batch.labels.numel() <= micro_tokens
        assert len(batch.inputs["pixel_values"]) == len(batch.labels)


def test_a_row_behind_a_corrupted_picture_is_that_of_the_conversation_alone(tiny_llava: Path) -> None:
    pairs = preferences(pictures=2)
    made = CorruptedAnswers("crop", pairs, seed=3)
    (batch,) = step(tiny_llava, pairs, corrupt="crop").micro_batches
    assert batch.segments is not None
    for pair in pairs:
        at = batch.ids.index(f"{pair.id}/corrupted") - 2 * len(pairs) + 2  # behind two shared rows
        alone = cases.encode(cases.encoder(tiny_llava), [made(pair)])
        length = alone.labels.shape[1]
        assert torch.equal(batch.inputs["pixel_values"][at], alone.inputs["pixel_values"][0])
        for ours, theirs in ((batch.labels, alone.labels), (batch.inputs["input_ids"], alone.inputs["input_ids"])):
            assert torch.equal(ours[at, :length], theirs[0])
        assert (batch.labels[at, length:] == IGNORE_INDEX).all()
        assert not batch.segments[at].any()


@pytest.mark.parametrize("policy", ["drop", "trim_text"])
def test_the_over_length_policy_takes_all_three_as_one(policy: str, tiny_llava: Path) -> None:
    pairs = preferences(pictures=2)
    whole = step(tiny_llava, pairs, corrupt="blank")
    lengths = {name: n for batch in whole.micro_batches for name, n in zip(batch.ids, batch.lengths, strict=True)}
    long = pairs[1].id  # its question is the longest
    limit = max(n for name, n in lengths.items() if name == f"{long}/chosen") - 1
    found = step(tiny_llava, pairs, corrupt="blank", max_length=limit, over_length=policy)  # type: ignore[arg-type]
    together(found)
    left_out = [pair.id for pair in pairs if pair.id not in {name.rpartition("/")[0] for name in found.ids}]
    touched = [pairs[1].id, pairs[4].id]
    if policy == "drop":
        assert found.dropped == touched == left_out
    else:
        assert (sorted(found.changed), left_out) == (sorted(touched), [])
        for batch in found.micro_batches:
            assert max(batch.lengths) <= limit
            ends = dict(zip(batch.ids, batch.lengths, strict=True))
            for name in touched:
                if f"{name}/chosen" in ends:  # one question for all three
                    assert ends[f"{name}/chosen"] == ends[f"{name}/corrupted"] < lengths[f"{name}/chosen"]
