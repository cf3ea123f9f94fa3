"""Tests of image tokens by arithmetic: equal to what each family's processor really writes, size by size."""

from __future__ import annotations

import random
from typing import Any

import pytest
from transformers import ProcessorMixin

from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.checkpoint.image_tokens import image_tokens_of, processed_tokens

RANDOM = random.Random(3)
SIZES = [
    (28, 28),
    (56, 28),
    (29, 57),
    (1, 60),
    (20, 20 * 40),
    (640, 480),
    *((RANDOM.randint(8, 260), RANDOM.randint(8, 260)) for _ in range(40)),
]

# Settings with which the arithmetic that the library brings is wrong, or other rules come in.
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "smolvlm whole": ("smolvlm", {"do_image_splitting": False}),
    "idefics3, an edge of two tiles and a half": ("idefics3", {"size": {"longest_edge": 75}}),
    "smolvlm, odd tiles": ("smolvlm", {"size": {"longest_edge": 100}, "max_image_size": {"longest_edge": 30}}),
    "internvl, at least two": ("internvl", {"min_patches": 2, "max_patches": 9}),
    "qwen2_vl, fewer": ("qwen2_vl", {"max_pixels": 640}),
    "pixtral, smaller": ("pixtral", {"size": {"longest_edge": 75}}),
}


def changed(name: str, settings: dict[str, Any]) -> ProcessorMixin:
    processor = TINY[name].build(0)[1]
    images = processor.image_processor
    processor.image_processor = type(images).from_dict(images.to_dict(), **settings)
    return processor


def panning() -> ProcessorMixin:
    processor = TINY["gemma3"].build(0)[1]
    settings = {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": 20,
        "pan_and_scan_max_num_crops": 3,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }
    images = processor.image_processor
    processor.image_processor = type(images).from_dict(images.to_dict(), **settings)
    processor.images_kwargs = {**processor.images_kwargs, **settings}
    return processor


def assert_exact(processor: ProcessorMixin) -> None:
    counted = image_tokens_of(processor)
    assert counted is not None
    real = [processed_tokens(processor, size) for size in SIZES]
    assert counted.of(SIZES) == real
    assert counted.most() >= max(real)


@pytest.mark.parametrize("name", [name for name in TINY if name != "pixtral"])
def test_each_familys_arithmetic_is_what_its_processor_writes(name: str) -> None:
    assert_exact(TINY[name].build(0)[1])


@pytest.mark.parametrize("name", CHANGED)
def test_so_it_is_with_other_settings(name: str) -> None:
    family, settings = CHANGED[name]
    if family == "pixtral":
        settings = {**settings, "patch_size": {"height": 8, "width": 8}}
    assert_exact(changed(family, settings))


def test_so_it_is_with_pan_and_scan() -> None:
    assert_exact(panning())


def test_without_a_rule_that_is_right_nothing_is_claimed() -> None:
    # LLaVA's own arithmetic is of the crop, which is not made here.
    assert image_tokens_of(changed("llava", {"do_center_crop": False, "size": {"shortest_edge": 28}})) is None
    # A picture is cut as it comes: none is the largest.
    assert image_tokens_of(changed("smolvlm", {"do_resize": False})) is None


@pytest.mark.parametrize(
    ("name", "most"), [("llava", 4), ("mllama", 1), ("qwen2_vl", 70), ("smolvlm", 34), ("internvl", 22), ("gemma3", 10)]
)
def test_the_most_that_a_picture_can_have(name: str, most: int) -> None:
    counted = image_tokens_of(TINY[name].build(0)[1])
    assert counted is not None
    assert counted.most() == most
