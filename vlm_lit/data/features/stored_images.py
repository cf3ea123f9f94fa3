"""Rows made without pixels, for images whose vision features are on disk.

A processor meets its image processor in one method, `_process_images`: it gives the tensors, and what is written in
place of each image's placeholder. A copy of the processor in which that method answers from the store makes every row
by the processor's own code, crosswise attention and token types included, and no image is decoded or resized.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

_PIXELS: Final = "pixel_values"


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One image without its pixels.

    Args:
        features: what the vision tower hands to each of the projector's modules.
        replacement: what the processor writes for the image's placeholder.
        fields: the processor's tensors that are no pixels, each [1, ...].
        counts: the processor's lists that have an entry an image, such as its number of tiles.
    """

    features: tuple[Tensor, ...]
    replacement: str
    fields: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the features."""
        return sum(tensor.nbytes for tensor in self.features)


ImageInput: TypeAlias = Image.Image | StoredImage
"""An image to process, or what was kept of one."""


def features_of(pictures: Sequence[Sequence[ImageInput]]) -> list[tuple[Tensor, ...]] | None:
    """The features of stored images in the order of the rows, each [..., D]; None where there are none."""
    return [p.features for group in pictures for p in group if isinstance(p, StoredImage)] or None


def standing_in(
    processor: ProcessorMixin, pictures: Sequence[Sequence[ImageInput]]
) -> tuple[ProcessorMixin, list[list[Image.Image]] | None]:
    """The processor to call and the images to call it with; None for a batch without images."""
    stored = [[p for p in group if isinstance(p, StoredImage)] for group in pictures]
    if not any(stored):
        decoded = [[p for p in group if isinstance(p, Image.Image)] for group in pictures]
        return processor, decoded if any(decoded) else None
    assert [len(group) for group in stored] == [len(group) for group in pictures], "images and stored ones in one batch"
    answering = copy.copy(processor)
    answering._process_images = lambda *_, **__: _answer(stored)
    dot = Image.new("RGB", (1, 1))  # only counted, never looked at
    return answering, [[dot] * len(group) for group in stored]


def _answer(stored: Sequence[Sequence[StoredImage]]) -> tuple[dict[str, Any], list[str]]:
    """What `_process_images` gives for conversations with these images; an empty tensor stands for the pixels."""
    every = [image for group in stored for image in group]
    fields: dict[str, Any] = {name: torch.cat([image.fields[name] for image in every]) for name in every[0].fields}
    counts = {name: [[image.counts[name] for image in group] for group in stored] for name in every[0].counts}
    return {_PIXELS: torch.zeros(0), **fields, **counts}, [image.replacement for image in every]


class Observed:
    """A copy of a processor that notes what becomes of the one image it is shown.

    Args:
        processor: the processor.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = copy.copy(processor)
        self.processor._process_images = self._process
        self._given: dict[str, Any] = {}
        self._replacement = ""
        self._really = processor._process_images

    def _process(self, images: object, **options: object) -> tuple[dict[str, Any], list[str]]:
        given, (replacement,) = self._really(images, **options)
        self._given, self._replacement = dict(given), str(replacement)
        return given, [replacement]

    def stored(self, features: tuple[Tensor, ...] = ()) -> StoredImage:
        """What is to be kept of the image, fields [1, ...]; its features [..., D] are still to come."""
        kept = {name: value for name, value in self._given.items() if not name.startswith("pixel")}
        return StoredImage(
            features=features,
            replacement=self._replacement,
            fields={name: value.clone() for name, value in kept.items() if isinstance(value, Tensor)},
            counts={name: value[0][0] for name, value in kept.items() if isinstance(value, list)},
        )

    def inputs(self, output: dict[str, object]) -> dict[str, Tensor]:
        """Those of the processor's output that tell the vision tower of the image, each [N, ...]."""
        return {name: value for name, value in output.items() if name in self._given and isinstance(value, Tensor)}
