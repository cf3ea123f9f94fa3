"""RandAugment of pictures: a few random operations of one strength, drawn from a seed alone.

Source of the behaviour: dandelin/ViLT, `vilt/transforms/randaug.py`, snapshot 762fd39, 2 operations of magnitude 9: its
14 operations with their ranges, drawn with replacement, applied before the picture is resized. Two things differ. What
a geometric operation uncovers is filled with the mean colour, not black. A shift is 100 pixels at most where the longer
side is 640 pixels, as COCO's pictures have it, and in proportion elsewhere: a small drawing would lose its only object.

torchvision and timm have a RandAugment as well. Both draw from the process's global random numbers, so that a resumed
run would draw others; torchvision's has a fixed list of operations, those of colour among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from PIL import Image, ImageEnhance, ImageOps

from vlm_lit.errors import ConfigError

STRONGEST: Final = 30
"""The magnitude at which an operation is as strong as its range allows."""

Colour: TypeAlias = tuple[int, int, int]

Change: TypeAlias = Callable[[Image.Image, float, Colour], Image.Image]
"""A change of a picture by a value; what it uncovers is filled with the colour."""

_SHIFT_OF: Final = 640
"""Pixels of the longer side that the range of a shift is said for."""


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random changes of training pictures.

    Args:
        operations: how many are applied to a picture, one after the other; 0 for none. ViLT takes 2.
        magnitude: how strong they are, 0 to 30. ViLT takes 9.
        colour: whether those that change colours are among them. Set it to false where answers are colours.

    Raises:
        ConfigError: a number out of its range.
    """

    operations: int = 0
    magnitude: int = 9
    colour: bool = True

    def __post_init__(self) -> None:
        if self.operations < 0:
            raise ConfigError(f"operations is {self.operations}; it must be at least 0, which is none.")
        if not 0 <= self.magnitude <= STRONGEST:
            raise ConfigError(f"magnitude is {self.magnitude}; it must be from 0 to {STRONGEST}.")


@dataclass(frozen=True)
class Operation:
    """One kind of change.

    Args:
        apply: the change.
        low, high: the values at magnitude 0 and at `STRONGEST`.
        signed: whether the value is as often negative.
        colours: whether it changes colours.
    """

    apply: Change
    low: float
    high: float
    signed: bool = False
    colours: bool = False

    def value(self, magnitude: float, draws: random.Random) -> float:
        """The value at a magnitude, its sign drawn."""
        value = self.low + magnitude / STRONGEST * (self.high - self.low)
        return -value if self.signed and draws.random() > 0.5 else value


def rand_augment(image: Image.Image, settings: AugmentSettings, *, seed: int, fill: Colour) -> Image.Image:
    """A picture after random changes; the same picture where none are asked for.

    Args:
        image: RGB.
        settings: how many, and how strong.
        seed: what is drawn follows from it and the settings alone, on every machine alike.
        fill: colour of what a geometric operation uncovers.
    """
    draws = random.Random(seed)
    for operation in draws.choices(_among(settings), k=settings.operations):
        image = operation.apply(image, operation.value(settings.magnitude, draws), fill)
    return image


def _among(settings: AugmentSettings) -> Sequence[Operation]:
    return [operation for operation in OPERATIONS.values() if settings.colour or not operation.colours]


def _colours(change: Callable[[Image.Image, float], Image.Image]) -> Change:
    """A change that uncovers nothing."""
    return lambda image, value, _: change(image, value)


class _Enhancer(Protocol):
    def enhance(self, factor: float) -> Image.Image: ...


def _enhanced(enhancer: Callable[[Image.Image], _Enhancer]) -> Change:
    return _colours(lambda image, factor: enhancer(image).enhance(factor))


def _solarize_added(image: Image.Image, added: float) -> Image.Image:
    brighter = [min(255, int(value + added)) for value in range(256)]
    return ImageOps.solarize(image.point(brighter * len(image.getbands())), 128)


def _rotate(image: Image.Image, degrees: float, fill: Colour) -> Image.Image:
    return image.rotate(degrees, fillcolor=fill)


def _affine(matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Change:
    return lambda image, value, fill: image.transform(
        image.size, Image.Transform.AFFINE, matrix(value, image), fillcolor=fill
    )


def _scaled(pixels: float, image: Image.Image) -> float:
    return pixels * max(image.size) / _SHIFT_OF


OPERATIONS: Final = {
    "auto_contrast": Operation(_colours(lambda image, _: ImageOps.autocontrast(image)), 0, 1, colours=True),
    "equalize": Operation(_colours(lambda image, _: ImageOps.equalize(image)), 0, 1, colours=True),
    "rotate": Operation(_rotate, 0, 30, signed=True),
    "posterize": Operation(
        _colours(lambda image, bits: ImageOps.posterize(image, max(1, int(bits)))), 0, 4, colours=True
    ),
    "solarize": Operation(
        _colours(lambda image, threshold: ImageOps.solarize(image, math.ceil(threshold))), 0, 256, colours=True
    ),
    "solarize_added": Operation(_colours(_solarize_added), 0, 110, colours=True),
    "colour": Operation(_enhanced(ImageEnhance.Color), 0.1, 1.9, colours=True),
    "contrast": Operation(_enhanced(ImageEnhance.Contrast), 0.1, 1.9, colours=True),
    "brightness": Operation(_enhanced(ImageEnhance.Brightness), 0.1, 1.9, colours=True),
    "sharpness": Operation(_enhanced(ImageEnhance.Sharpness), 0.1, 1.9),
    "shear_x": Operation(_affine(lambda slope, _: (1, slope, 0, 0, 1, 0)), 0, 0.3, signed=True),
    "shear_y": Operation(_affine(lambda slope, _: (1, 0, 0, slope, 1, 0)), 0, 0.3, signed=True),
    "shift_x": Operation(_affine(lambda pixels, image: (1, 0, _scaled(pixels, image), 0, 1, 0)), 0, 100, signed=True),
    "shift_y": Operation(_affine(lambda pixels, image: (1, 0, 0, 0, 1, _scaled(pixels, image))), 0, 100, signed=True),
}
"""ViLT's operations in its order, and their ranges. At magnitude 9 `posterize` leaves one bit a channel."""
