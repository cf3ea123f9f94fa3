"""Tests of RandAugment: drawn from the seed alone, without colours where asked, filled with the mean colour."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_lit.data.images.rand_augment import OPERATIONS, AugmentSettings, rand_augment
from vlm_lit.errors import ConfigError

GREY = (128, 128, 128)
TWO = AugmentSettings(operations=2)


def noise(size: tuple[int, int] = (64, 48), seed: int = 0) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and np.array_equal(np.asarray(one), np.asarray(other))


def test_a_seed_draws_the_same_and_others_draw_others() -> None:
    made = [rand_augment(noise(), TWO, seed=seed, fill=GREY) for seed in range(20)]
    assert all(same(rand_augment(noise(), TWO, seed=s, fill=GREY), image) for s, image in enumerate(made))
    assert len({image.tobytes() for image in made}) > 15
    assert all(image.size == (64, 48) and image.mode == "RGB" for image in made)


def test_what_a_seed_draws_is_the_same_on_every_machine() -> None:
    """The operations drawn by hand from Python's generator, whose sequence is promised."""
    settings = AugmentSettings(operations=3, magnitude=30)
    draws = random.Random(5)
    names = draws.choices(list(OPERATIONS), k=3)
    assert names == ["brightness", "shear_x", "shear_y"]
    expected = noise()
    for name in names:
        operation = OPERATIONS[name]
        expected = operation.apply(expected, operation.value(30, draws), GREY)
    assert same(rand_augment(noise(), settings, seed=5, fill=GREY), expected)


def test_global_random_numbers_are_not_touched() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    for seed in range(10):
        rand_augment(noise(), AugmentSettings(operations=3), seed=seed, fill=GREY)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_no_operations_leave_the_picture_as_it_is() -> None:
    image = noise()
    assert rand_augment(image, AugmentSettings(), seed=1, fill=GREY) is image


def test_without_colour_every_pixel_of_flat_areas_keeps_its_colour() -> None:
    image = Image.new("RGB", (64, 64), "red")
    image.paste((0, 0, 255), (16, 16, 48, 48))
    known = {(255, 0, 0), (0, 0, 255), GREY}
    plain = AugmentSettings(operations=2, magnitude=30, colour=False)
    for seed in range(60):
        made = rand_augment(image, plain, seed=seed, fill=GREY)
        # Sharpening mixes neighbours along the edge of the square; nothing else makes a new colour.
        counts = made.getcolors(64 * 64)
        assert counts is not None
        assert sum(count for count, colour in counts if colour not in known) < 600
    with_colour = AugmentSettings(operations=2, magnitude=30)
    flat = [rand_augment(Image.new("RGB", (8, 8), "red"), with_colour, seed=s, fill=(255, 0, 0)) for s in range(60)]
    assert len({image.getpixel((4, 4)) for image in flat}) > 3  # the same is not so with colours
    plain_flat = [rand_augment(Image.new("RGB", (8, 8), "red"), plain, seed=s, fill=(255, 0, 0)) for s in range(60)]
    assert {image.tobytes() for image in plain_flat} == {bytes([255, 0, 0] * 64)}


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "shift_x", "shift_y"])
def test_what_is_uncovered_has_the_mean_colour(name: str) -> None:
    operation = OPERATIONS[name]
    made = operation.apply(Image.new("RGB", (64, 64), "red"), operation.high, (1, 2, 3))
    counts = made.getcolors()
    assert counts is not None
    assert {colour for _, colour in counts} == {(255, 0, 0), (1, 2, 3)}


def test_a_shift_is_in_proportion_to_the_longer_side() -> None:
    for size in [(640, 480), (64, 48), (48, 64)]:
        shift = OPERATIONS["shift_x"]
        made = np.asarray(shift.apply(Image.new("RGB", size, "red"), 64, (0, 0, 0)))
        assert (made[0, :, 0] == 0).sum() == max(size) // 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("posterize", lambda v: v & 0b10000000),  # int(1.2) bits at magnitude 9
        ("solarize", lambda v: np.where(v < 76.8, v, 255 - v)),
        ("solarize_added", lambda v: _solarized(np.minimum(255, v + 33))),
    ],
)
def test_the_published_strength_of_magnitude_9(name: str, expected: object) -> None:
    operation = OPERATIONS[name]
    image = noise()
    made = operation.apply(image, operation.value(9, random.Random(0)), GREY)
    assert callable(expected)
    assert np.array_equal(np.asarray(made), expected(np.asarray(image).astype(int)))


def _solarized(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> object:
    return np.where(values < 128, values, 255 - values)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operations": -1}, "operations is -1; it must be at least 0"),
        ({"magnitude": 31}, "magnitude is 31; it must be from 0 to 30"),
        ({"magnitude": -1}, "magnitude is -1"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AugmentSettings(**settings)  # type: ignore[arg-type]
