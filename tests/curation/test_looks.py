"""Tests of looking at pictures: what near duplicates differ by, and what only looks alike in grey."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance

from tests.support.messy_folder import Messy
from vlm_lit.curation.looks import look_at, perceptual_hashes

NEAR = 4


def bits(one: Image.Image, other: Image.Image) -> int:
    pairs = zip(perceptual_hashes(one), perceptual_hashes(other), strict=True)
    return max((a ^ b).bit_count() for a, b in pairs)


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def marked(image: Image.Image) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).text((5, 5), "(c)", fill="white")
    return copy


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_near_and_others_are_not(seed: int, tmp_path: Path) -> None:
    messy = Messy(tmp_path, _pictures=seed * 10)
    image, other = messy.picture(), messy.picture()
    large = image.resize((1280, 960))
    copies = [
        compressed(image),
        marked(image),
        large,
        image.resize((80, 60)),
        ImageEnhance.Brightness(image).enhance(0.9),
    ]
    assert max(bits(image, copy) for copy in copies) <= NEAR
    assert bits(image, other) > 3 * NEAR


def test_a_red_lamp_is_not_a_green_one_of_the_same_grey() -> None:
    def lamp(colour: tuple[int, int, int]) -> Image.Image:
        image = Image.new("RGB", (160, 120), "grey")
        ImageDraw.Draw(image).ellipse((40, 20, 90, 70), fill=colour)
        return image

    assert bits(lamp((255, 0, 0)), lamp((255, 0, 0))) == 0
    assert bits(lamp((255, 0, 0)), lamp((0, 130, 0))) > 3 * NEAR


def test_a_look_says_what_is_wrong(tmp_path: Path) -> None:
    found = look_at(tmp_path / "gone.png", hashed=True)
    assert found.digest == ""
    assert found.problem is not None
    assert found.problem[2] == "image.missing"
    messy = Messy(tmp_path)
    messy.photo("a.png")
    assert look_at(messy.photos / "a.png", hashed=False).hashes == ()
    assert len(look_at(messy.photos / "a.png", hashed=True).hashes) == 3
