"""Corrupted pictures of pairs: the chosen answer behind a grey picture, another pair's, or a small crop of its own.

mDPO prefers an answer behind its own picture to the same answer behind a corrupted one. Its paper (arXiv 2406.11839)
crops up to a fifth of the picture at random, which is `crop` here; its released code masks visual tokens instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal, Protocol

import torch
from PIL import Image

from vlm_lit.data.answers.blind import grey, other_images
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.preference_dataset import check_pictured
from vlm_lit.data.sampler import derive_seed
from vlm_lit.schema import Conversation, ImageRef, Preference

Corruption = Literal["blank", "shuffle", "crop"]

LARGEST_CROP: Final = 0.2
"""Share of a picture's area that a crop shows at most."""


class Pairs(Protocol):
    """Pairs by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Preference: ...


class CorruptedAnswers:
    """Makes of each pair its chosen answer behind a corrupted picture; everything else of the pair is as it was.

    The picture follows from the seed and the pair's id, whoever asks, in whatever order.

    Args:
        kind: `blank` shows grey pictures of the same sizes, `shuffle` another pair's pictures, `crop` a small part of
            each picture, enlarged to its size.
        pairs: all pairs, for `shuffle`.
        seed: what `shuffle` and `crop` follow from.

    Raises:
        ConfigError: there is no other picture to show.
    """

    def __init__(self, kind: Corruption, pairs: Pairs, *, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self._make = _KINDS[kind](pairs, seed)

    def __call__(self, pair: Preference) -> Conversation:
        """The chosen conversation behind a corrupted picture.

        Raises:
            RecordError: the pair shows no picture, or one that cannot be read.
        """
        check_pictured(pair)
        return replace(pair.chosen, id=f"{pair.id}/corrupted", images=self._make.images(pair))

    def names(self, pair: Preference) -> list[object]:
        """What names a pair's corrupted pictures where its own are known: plain values, or images by contents."""
        return [self.kind, *self._make.names(pair)]


class CorruptedItems:
    """The chosen conversations of pairs behind corrupted pictures, by index."""

    def __init__(self, pairs: Pairs, corrupted: CorruptedAnswers) -> None:
        self.pairs, self.corrupted = pairs, corrupted

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Conversation:
        return self.corrupted(self.pairs[index])


class _Pictures(Protocol):
    def images(self, pair: Preference) -> tuple[ImageRef, ...]: ...

    def names(self, pair: Preference) -> list[object]: ...


class _Grey:
    def __init__(self, pairs: Pairs, seed: int) -> None:
        pass

    def images(self, pair: Preference) -> tuple[ImageRef, ...]:
        return tuple(ImageRef(data=grey(picture.size)) for picture in load_images(pair))

    def names(self, pair: Preference) -> list[object]:
        return []


class _Parts:
    def __init__(self, pairs: Pairs, seed: int) -> None:
        self.seed = seed

    def images(self, pair: Preference) -> tuple[ImageRef, ...]:
        return tuple(
            ImageRef(pixels=cropped(picture, derive_seed("crop", self.seed, pair.id, place)))
            for place, picture in enumerate(load_images(pair))
        )

    def names(self, pair: Preference) -> list[object]:
        return [LARGEST_CROP, self.seed, pair.id]


class _Others:
    """All pairs about a picture are shown the same other one."""

    def __init__(self, pairs: Pairs, seed: int) -> None:
        remedy = "Set it to blank or crop, or train on pairs about more pictures."
        donors, _ = other_images(pairs, seed, "data.corrupt", remedy)
        self.pairs, self.donors = pairs, {pairs[i].id: donor for i, donor in enumerate(donors)}

    def images(self, pair: Preference) -> tuple[ImageRef, ...]:
        donor = self.donors[pair.id]
        assert donor is not None
        return self.pairs[donor].images

    def names(self, pair: Preference) -> list[object]:
        return list(self.images(pair))


def cropped(picture: Image.Image, seed: int) -> Image.Image:
    """A random part of a picture, enlarged to the picture's size so that it takes as many tokens.

    Its area is up to `LARGEST_CROP` of the picture's, its shape the picture's.
    """
    generator = torch.Generator().manual_seed(seed)
    share, across, down = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    side = math.sqrt(LARGEST_CROP * share)
    width, height = (max(1, int(side * length)) for length in picture.size)
    left, top = int(across * (picture.width - width + 1)), int(down * (picture.height - height + 1))
    part = picture.crop((left, top, left + width, top + height))
    return part.resize(picture.size, Image.Resampling.BICUBIC)


_KINDS: Final[Mapping[Corruption, Callable[[Pairs, int], _Pictures]]] = {
    "blank": _Grey,
    "shuffle": _Others,
    "crop": _Parts,
}
