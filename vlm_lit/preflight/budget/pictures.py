"""The pictures that a budget assumes where these vary in tiles or tokens: the largest that fit in the row.

Their fields are what the checkpoint's own processor makes of grey pictures of that size.

B = rows, L = tokens of a row, n = pictures in a row, N = what a processor makes of them: pictures, tiles or patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.image_tokens import Size, image_tokens_of, shapes
from vlm_lit.data.rows.encoding import UNFIT, split_fields
from vlm_lit.errors import VlmLitError

_WORDS: Final = " a" * 64
"""Text that makes a row longer than any count of tiles, by which its fields are told from those of pictures."""

_USUAL: Final = 1024
"""Side of a picture, in pixels: of those that become as much, the one nearest to it is assumed."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a row.

    Args:
        size: width and height of each in pixels; None where every picture becomes as much.
        tokens: what a processor writes for each, in tokens.
        images: how many a row has.
        largest: whether the processor's settings allow none with more tokens; otherwise none larger fits in the row.
        token: the id that stands for an image's features.
        places: how many of it a row has.
        along: fields of a row that run along its tokens, beside ids and mask [1, T, ...].
        fields: the other fields of a row, as the processor makes them [N, ...].
    """

    size: Size | None
    tokens: int
    images: int
    largest: bool
    token: int
    places: int
    along: Mapping[str, Tensor]
    fields: Mapping[str, Tensor]

    @property
    def words(self) -> str:
        """What was assumed, for a reader."""
        if self.size is None:
            return "a picture of any size, since all take as much"
        which = "that the processor's settings allow" if self.largest else "that fits in the row"
        if self.images > 1 and not self.largest:
            which = f"of which {self.images} fit in the row"
        return f"a picture of {self.size[0]:,} x {self.size[1]:,} pixels, the largest {which}"

    def inputs(self, rows: int, length: int) -> dict[str, Tensor]:
        """The fields of so many rows: ids and integers as they are, of all else sizes alone.

        To be called where `KnownValues` and a fake mode are on.
        """
        ids = torch.full((rows, length), int(self.token == 0))
        ids[:, : self.places] = self.token
        along = {
            name: torch.empty(rows, length, *value.shape[2:], dtype=value.dtype) for name, value in self.along.items()
        }
        return {"input_ids": ids, **along, **self.of(rows)}

    def of(self, rows: int) -> dict[str, Tensor]:
        """The pictures' own fields, for so many rows."""
        return {
            name: torch.empty(rows * value.shape[0], *value.shape[1:], dtype=value.dtype)
            if value.is_floating_point()
            else value.repeat(rows, *[1] * (value.dim() - 1))
            for name, value in self.fields.items()
        }

    def join_windows(self, base: nn.Module) -> None:
        """Let Qwen2.5-VL's tower look at each picture in one window.

        What SDPA keeps and gives does not depend on how places are split, and a large picture has a thousand windows.
        """
        grids = self.fields.get("image_grid_thw")
        for layer in base.modules():
            if grids is not None and hasattr(layer, "window_size") and hasattr(layer, "spatial_merge_size"):
                layer.window_size = int(grids.max()) * layer.patch_size  # type: ignore[operator, assignment]

    def numbers(self) -> Iterator[int]:
        """Whatever numbers a size can be a product of, rows aside."""
        yield from (self.tokens, self.places, self.images)
        for value in self.fields.values():
            yield from value.shape
            if not value.is_floating_point() and value.dim() < _MASK:
                yield from value.flatten().tolist()


_MASK: Final = 3
"""Dimensions of the smallest mask of tiles or pixels, whose values are no sizes."""


@dataclass(frozen=True, kw_only=True)
class NoPictures:
    """Pictures that cannot be assumed, and why."""

    reason: str


def pictures_of(processor: Callable[[], ProcessorMixin], images: int, length: int) -> Pictures | NoPictures:
    """The pictures of a row of `length` tokens that has so many of them: those with most tokens.

    Args:
        processor: loads it.
        images: pictures in the row.
        length: tokens of the row.
    """
    try:
        loaded = processor()
    except (VlmLitError, *UNFIT, OSError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        return NoPictures(reason=f"there is no processor to ask: {said[0]}")
    counted = image_tokens_of(loaded)
    if counted is None:
        return NoPictures(reason="nothing says how many tokens its processor's largest picture needs")
    sizes = [*dict.fromkeys(shapes())]
    tokens = dict(zip(sizes, counted.of(sizes), strict=True))
    fitting = {size: count for size, count in tokens.items() if images * count < length}
    if not fitting:
        least = images * min(tokens.values())
        return NoPictures(reason=f"no picture fits in a row of {length:,} tokens, of which it takes {least:,} at least")
    most = max(fitting.values())
    size = min((size for size, count in fitting.items() if count == most), key=_oddness)
    same = len(set(tokens.values())) == 1
    return _processed(loaded, size, most, images, largest=most == max(tokens.values()), same=same)


def _oddness(size: Size) -> tuple[float, float]:
    return max(size) / min(size), abs(math.log(max(size) / _USUAL))


def _processed(
    processor: ProcessorMixin, size: Size, tokens: int, images: int, *, largest: bool, same: bool
) -> Pictures:
    picture = Image.new("RGB", size, "grey")
    mark = str(processor.image_token)
    output = processor(text=[mark * images + _WORDS], images=[[picture] * images], return_tensors="pt")
    along, fields = split_fields(dict(output))
    token = processor.tokenizer.convert_tokens_to_ids(mark)
    return Pictures(
        size=None if same else size,
        tokens=tokens,
        images=images,
        largest=largest,
        token=token,
        places=int((along["input_ids"] == token).sum()),
        along={name: value for name, value in along.items() if name not in ("input_ids", "attention_mask", "labels")},
        fields=fields,
    )
