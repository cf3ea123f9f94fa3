"""Another look of the same scenes: the pictures' domain shifts, what is shown and asked stays as it is.

*Shifted* is the workbench through another camera: warm dim light, a stained bench, soft focus and grain. The shipped
base, made on plain pictures, answered 94 % of plain questions on those and 69 % on shifted ones (40 scenes of a world
it had not seen).
"""

from __future__ import annotations

from random import Random
from typing import Final, Literal

from PIL import Image, ImageChops, ImageFilter

Look = Literal["plain", "shifted"]

_LIGHT: Final = ((0.80, 30), (0.72, 26), (0.58, 20))
"""Factor and offset of the red, green and blue channel, 0..255: warmer, darker, of less contrast."""
_SOFTNESS: Final = 1.5
"""Radius of the blur, in pixels."""
_STAINS: Final = (14, 40)
_GRAIN: Final = (224, 16)
"""Cells along a side, and the largest change of a channel, 0..255."""


def seen(picture: Image.Image, look: Look, name: str) -> Image.Image:
    """The RGB picture of the scene called `name` as it looks; stains and grain follow from the name alone."""
    if look == "plain":
        return picture
    rng = Random(f"workbench look {name}")
    lit = [band.point(_brightness(*light)) for band, light in zip(picture.split(), _LIGHT, strict=True)]
    shifted = Image.merge("RGB", lit).filter(ImageFilter.GaussianBlur(_SOFTNESS))
    for cells, strength in (_STAINS, _GRAIN):
        unevenness = _unevenness(rng, cells, strength, picture.size)
        shifted = ImageChops.add(shifted, Image.merge("RGB", [unevenness] * 3), scale=1, offset=-128)
    return shifted


def _brightness(factor: float, offset: int) -> list[int]:
    """What each of the 256 values of a channel becomes."""
    return [round(value * factor + offset) for value in range(256)]


def _unevenness(rng: Random, cells: int, strength: int, size: tuple[int, int]) -> Image.Image:
    """Random cells, blended into each other; 128 means no change."""
    drawn = Image.frombytes("L", (cells, cells), rng.randbytes(cells * cells))
    weaker = [128 + round((value - 128) * strength / 128) for value in range(256)]
    return drawn.resize(size, Image.Resampling.BILINEAR).point(weaker)
