"""Tests of shrinking: found by arithmetic, right by the real processor, and no smaller than it has to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.shrinking import STEP, fitting_sizes
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, StepBatch, Turn

ANY_SIZE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "pixtral", "llava_next")


def talk(images: int = 1) -> Conversation:
    turns = (Turn(role="user", content=(*[IMAGE] * images, "what?")), Turn(role="assistant", content=("red blue",)))
    return Conversation(id="long", turns=turns, images=(), file="data.json", record="long")


def policy_of(name: str, tokens_fewer: int, pictures: list[Image.Image]) -> OverLengthPolicy:
    """A policy that allows so many tokens fewer than the pictures have."""
    processor = TINY[name].build(0)[1]
    if name == "pixtral":  # pictures of up to 32 pixels are all alike
        processor.image_processor = type(processor.image_processor)(size={"longest_edge": 512}, patch_size=8)
    encoder = encoder_of(processor)
    policy = OverLengthPolicy(encoder, None, "shrink_image")
    policy.max_length = policy._length(talk(len(pictures)), pictures, False) - tokens_fewer
    return policy


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("sizes", [[(300, 220)], [(260, 190), (80, 100)]])
def test_pictures_fit_and_are_no_smaller_than_by_trying(name: str, sizes: list[tuple[int, int]]) -> None:
    pictures = [tiny_models.picture(i, size) for i, size in enumerate(sizes)]
    policy = policy_of(name, 3 if name == "llava_next" else 6, pictures)
    kept, smaller = policy.apply(talk(len(sizes)), pictures) or (None, [])
    assert kept == talk(len(sizes))
    assert policy.fits(talk(len(sizes)), smaller, for_generation=False)
    tried = policy._shrink_by_trying(talk(len(sizes)), pictures, False)
    assert all(a.width >= b.width and a.height >= b.height for a, b in zip(smaller, tried, strict=True))
    assert all(a.size != b.size for a, b in zip(smaller, pictures, strict=True))


@pytest.mark.parametrize("name", ["qwen2_vl", "pixtral"])
def test_a_little_larger_they_would_not_fit(name: str) -> None:
    picture = tiny_models.picture(0, (300, 220))
    policy = policy_of(name, 6, [picture])
    _, (found,) = policy.apply(talk(), [picture]) or (None, [picture])
    assert not policy.fits(talk(), [picture.resize((found.width + 2, found.height + 2))], for_generation=False)


def test_the_large_picture_is_never_processed_and_shrunk_once() -> None:
    picture = tiny_models.picture(0, (300, 220))
    policy = policy_of("qwen2_vl", 6, [picture])
    processor: Any = policy.encoder.processor
    seen: list[tuple[int, int]] = []

    class Seeing(type(processor.image_processor)):  # type: ignore[misc]
        def process_image(self, image: Image.Image, **options: object) -> object:
            seen.append(image.size)
            return super().process_image(image, **options)

    processor.image_processor = Seeing.from_dict(processor.image_processor.to_dict())
    policy.apply(talk(), [picture])
    assert seen
    assert max(map(max, seen)) < 220


@pytest.mark.parametrize("turned", [False, True])
def test_a_step_never_processes_a_photo_that_is_too_large_alone(turned: bool, tmp_path: Path) -> None:
    photo, exif = tiny_models.picture(0, (300, 220)), Image.Exif()
    exif[0x0112] = 6 if turned else 1
    photo.save(tmp_path / "photo.png", exif=exif)
    processor: Any = TINY["qwen2_vl"].build(0)[1]
    seen: list[tuple[int, int]] = []

    class Seeing(type(processor.image_processor)):  # type: ignore[misc]
        def process_image(self, image: Image.Image, **options: object) -> object:
            seen.append(image.size)
            return super().process_image(image, **options)

    processor.image_processor = Seeing.from_dict(processor.image_processor.to_dict(), max_pixels=64 * 400)
    policy = OverLengthPolicy(encoder_of(processor), 150, "shrink_image")
    shown = replace(talk(), images=(ImageRef(path=tmp_path / "photo.png"),))
    short = replace(talk(0), id="short")
    assert [policy.pictures_too_long(c) for c in (shown, short)] == [True, False]
    found = StepCollator(policy.encoder, policy, 4, packing=True)([shown, short])
    assert isinstance(found, StepBatch), found
    assert found.changed == ["long"]
    assert sorted(found.ids) == ["long", "short"]
    assert all(max(batch.lengths) <= 150 for batch in found.micro_batches)
    assert seen
    assert max(map(max, seen)) < 220


def test_where_no_arithmetic_is_right_it_is_tried_out() -> None:
    processor = TINY["pixtral"].build(0)[1]
    images = processor.image_processor
    processor.image_processor = type(images).from_dict(images.to_dict(), do_resize=False)
    policy = OverLengthPolicy(encoder_of(processor), 60, "shrink_image")
    picture = tiny_models.picture(0, (80, 80))
    assert policy._counted is None
    _, (found,) = policy.apply(talk(), [picture]) or (None, [picture])
    assert found.size == (round(80 * STEP), round(80 * STEP)) or found.width < 64
    assert policy.fits(talk(), [found], for_generation=False)


def test_shrinking_refuses_where_the_tokens_do_not_follow_the_size() -> None:
    picture = tiny_models.picture(0, (300, 220))
    policy = policy_of("idefics3", 6, [picture])
    with pytest.raises(RecordError, match=r"Shrinking its images does not help.*data\.init_args\.image_processor"):
        policy.apply(talk(), [picture])


def test_a_conversation_without_images_cannot_be_shrunk() -> None:
    policy = OverLengthPolicy(encoder_of(TINY["qwen2_vl"].build(0)[1]), 5, "shrink_image")
    with pytest.raises(RecordError, match="It has no images to shrink"):
        policy.apply(talk(0), [])


def test_sizes_are_looked_for_from_above_where_tokens_rise_again() -> None:
    """Tiles: a smaller picture may need more. The largest that fits counts, not the first of a bisection."""

    class Tiled:
        def of(self, sizes: list[tuple[int, int]]) -> list[int]:
            return [5 if 600 <= width <= 700 or width < 100 else 50 for width, _ in sizes]

    tiled: Any = Tiled()
    assert fitting_sizes(tiled, [(1000, 1000)], 10) == [(700, 700)]
    assert fitting_sizes(tiled, [(1000, 1000)], 4) is None
