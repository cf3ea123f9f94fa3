"""Image tokens of pictures by their sizes alone: arithmetic from a processor's settings, no picture processed.

Most of transformers' processors can say it themselves, some of them wrongly, others not at all. So there are several
rules here, and a processor's rule is the first that agrees with what it really makes of a few small pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image
from transformers import ProcessorMixin

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

Arithmetic: TypeAlias = Callable[[ProcessorMixin, Sequence[Size]], list[int]]

_TRIED: Final[tuple[Size, ...]] = ((90, 60), (44, 130), (61, 61))
"""Small pictures on which a rule has to be right."""

_REFUSALS: Final = (AttributeError, KeyError, TypeError, ValueError, IndexError)

_CAP: Final = 4096  # Idefics3's MAX_IMAGE_SIZE: longest side after its first resizing

_SIDES: Final = (16, 64, 224, 448, 896, 1344, 2048, 4096, 8192)
_LONGEST: Final = 200  # times its width; a longer picture is refused, see images.py
_FINE: Final = 1.04
_TILES: Final = 12


class ImageTokens:
    """What a processor writes for a picture, counted in tokens.

    Args:
        processor: whose.
        rule: counts by sizes.
    """

    def __init__(self, processor: ProcessorMixin, rule: Arithmetic) -> None:
        self.processor, self.rule = processor, rule

    def of(self, sizes: Sequence[Size]) -> list[int]:
        """The tokens of a picture of each size."""
        return self.rule(self.processor, sizes) if sizes else []

    def most(self) -> int:
        """The tokens of the picture that gets most of them, whatever its size and shape."""
        return max(self.of([*shapes()]))


def image_tokens_of(processor: ProcessorMixin) -> ImageTokens | None:
    """The arithmetic of a processor; None where no rule gives what it really makes of pictures."""
    try:
        real = [processed_tokens(processor, size) for size in _TRIED]
    except _REFUSALS:
        return None  # it takes no picture alone, or none with settings of its own
    for rule in (_split, _rowed, _scanned, _own, _constant):
        try:
            if rule(processor, _TRIED) == real:
                return ImageTokens(processor, rule)
        except _REFUSALS:
            continue  # the rule is for processors with other settings
    return None


def processed_tokens(processor: ProcessorMixin, size: Size) -> int:
    """The tokens of a grey picture of this size, by processing it."""
    written: list[str] = []

    def noted(*arguments: Any, **options: Any) -> str:  # noqa: ANN401 - the library's own arguments
        written.append(str(processor.replace_image_token(*arguments, **options)))
        return written[-1]

    observed = copy.copy(processor)
    observed.replace_image_token = noted
    observed.image_processor = _quick(processor.image_processor)
    picture = Image.new("RGB", size, "grey")
    observed(text=[str(processor.image_token)], images=[[picture]], return_tensors="pt")
    # Mllama's writes nothing in the place of its one token.
    return _tokens(processor, written[0]) if written else 1


def _quick(images: Any) -> Any:  # noqa: ANN401 - any family's image processor
    """An image processor that makes as many tokens in less time: what becomes of the pixels is not looked at."""
    return type(images).from_dict(
        images.to_dict(), do_rescale=False, do_normalize=False, resample=Image.Resampling.NEAREST
    )


def shapes() -> Iterator[Size]:
    """Pictures of every shape that is accepted, small and large; ratios of small numbers exactly."""
    exact = {(a / b) for a in range(1, _TILES + 1) for b in range(1, _TILES + 1)}
    steps = math.ceil(math.log(_LONGEST, _FINE))
    for ratio in sorted(exact | {_FINE**k for k in range(-steps, steps + 1)}):
        for side in _SIDES:
            width, height = (side, side / ratio) if ratio > 1 else (side * ratio, side)
            size = max(1, round(width)), max(1, round(height))
            if max(size) <= _LONGEST * min(size):
                yield size


def _own(processor: ProcessorMixin, sizes: Sequence[Size]) -> list[int]:
    """What the processor says itself."""
    found = processor._get_num_multimodal_tokens(image_sizes=[(height, width) for width, height in sizes])
    return [int(count) for count in found.num_image_tokens]


def _split(processor: ProcessorMixin, sizes: Sequence[Size]) -> list[int]:
    """Idefics3 and SmolVLM: the picture is resized to whole tiles, cut into them, and seen whole once more.

    Their own arithmetic is for longest edges that are a whole number of tiles.
    """
    images = processor.image_processor
    tile = images.max_image_size["longest_edge"]

    @cache
    def tokens(rows: int, columns: int) -> int:
        return _tokens(processor, processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0))

    if not images.do_resize:
        raise ValueError("A picture is cut as it comes, so there is no largest one.")
    found = []
    for width, height in sizes:
        height, width = _resized(height, width, images.size["longest_edge"])
        if not images.do_image_splitting:
            found.append(tokens(0, 0))
            continue
        ratio = width / height
        if width >= height:
            width = math.ceil(width / tile) * tile
            height = math.ceil(int(width / ratio) / tile) * tile
        else:
            height = math.ceil(height / tile) * tile
            width = math.ceil(int(height * ratio) / tile) * tile
        cut = height > tile or width > tile
        found.append(tokens(height // tile, width // tile) if cut else tokens(0, 0))
    return found


def _resized(height: int, width: int, longest: int) -> Size:
    """Height and width once the longer side is `longest`, and the other even."""
    ratio = width / height
    if width >= height:
        height, width = int(longest / ratio), longest
        height += height % 2
    else:
        height, width = longest, int(longest * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > _CAP:
        height, width = int(_CAP / ratio), _CAP
    elif height > width and height > _CAP:
        height, width = _CAP, int(_CAP * ratio)
    return max(height, 1), max(width, 1)


def _rowed(processor: ProcessorMixin, sizes: Sequence[Size]) -> list[int]:
    """Pixtral: patches row by row, and a token at the end of each. Its own arithmetic writes a warning a picture."""
    images, patch = processor.image_processor, processor.patch_size * processor.spatial_merge_size
    if not images.do_resize:
        raise ValueError("A picture is taken as it comes, so there is no largest one.")
    longest = images.size["longest_edge"]
    found = []
    for width, height in sizes:
        ratio = max(width / longest, height / longest, 1.0)
        rows, columns = (math.ceil(math.floor(side / ratio) / patch) for side in (height, width))
        found.append(rows * (columns + 1))
    return found


def _scanned(processor: ProcessorMixin, sizes: Sequence[Size]) -> list[int]:
    """Gemma 3: the picture, and the crops that pan and scan makes of a long one."""
    images = processor.image_processor
    called_with = processor.images_kwargs
    names = ("pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops", "pan_and_scan_min_ratio_to_activate")
    settings = {name: called_with.get(name, getattr(images, name)) for name in names}

    @cache
    def tokens(crops: int) -> int:
        return _tokens(processor, processor.replace_image_token({"num_crops": [crops]}, 0))

    if not called_with.get("do_pan_and_scan", images.do_pan_and_scan):
        return [tokens(0)] * len(sizes)
    # Only its shape is looked at, and crops are views: no memory.
    pictures = (np.broadcast_to(np.uint8(0), (3, height, width)) for width, height in sizes)
    return [tokens(len(images.pan_and_scan(picture, **settings))) for picture in pictures]


def _constant(processor: ProcessorMixin, sizes: Sequence[Size]) -> list[int]:
    """Processors that write the same for every picture: they look at nothing of it (Llama 3.2 Vision)."""
    return [_tokens(processor, processor.replace_image_token({}, 0))] * len(sizes)


def _tokens(processor: ProcessorMixin, written: object) -> int:
    return len(processor.tokenizer(str(written), add_special_tokens=False)["input_ids"])
