"""Vision tower of Pixtral over many pictures, a few at a time: it would join all of a batch in one attention.

Its pictures do not see each other, yet transformers puts their patches into one row with a mask [P, P] over all: eight
pictures of 4,096 patches take 64 times the attention of one, and a mask of 2 GB. In chunks the result is the same. The
other families' towers look at each picture, or tile, on its own.

P = patches of a picture, C = the tower's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PixtralVisionModel
from transformers.modeling_outputs import BaseModelOutput

from vlm_lit.models.families import Family
from vlm_lit.models.plain_layers import put_aside

MOST_PATCHES: Final = 4096
"""Patches that are looked at together: those of one of Pixtral's largest pictures, 1024 x 1024 pixels."""


class ChunkedPixtralTower(PixtralVisionModel):  # type: ignore[misc]
    """The tower, with at most `MOST_PATCHES` in one attention, or one picture that has more."""

    def forward(self, pixel_values: Tensor, image_sizes: Any = None, **named: Any) -> Any:  # noqa: ANN401 - transformers'
        """Features of pictures [N, 3, H, W], as large as `image_sizes` [N, 2] says, in one row [1, sum of P, C]."""
        sizes = None if image_sizes is None else [(int(height), int(width)) for height, width in image_sizes]
        chunks = [] if sizes is None else list(_chunks(sizes, self.patch_size))
        if len(chunks) < 2 or named.get("return_dict") is False or put_aside():
            return super().forward(pixel_values, image_sizes=image_sizes, **named)
        assert sizes is not None
        found = [super(ChunkedPixtralTower, self).forward(
            # Nothing but padding lies behind the chunk's largest picture.
            pixel_values[at, :, : max(h for h, _ in sizes[at]), : max(w for _, w in sizes[at])],
            image_sizes=sizes[at],
            **named,
        ) for at in chunks]  # fmt: skip
        return BaseModelOutput(
            last_hidden_state=torch.cat([one.last_hidden_state for one in found], 1),
            hidden_states=_joined([one.hidden_states for one in found]),
        )


def look_in_chunks(base: nn.Module, family: Family) -> None:
    """Let a model's tower look at few pictures at a time, where it would join all."""
    modules = dict(base.named_modules())
    for root in family.vision_tower:
        tower = modules.get(root)
        if tower is not None and type(tower) is PixtralVisionModel:
            with torch.device("meta"):
                ChunkedPixtralTower(tower.config)  # from the first of a class transformers learns what it can record
            tower.__class__ = ChunkedPixtralTower


def _chunks(sizes: Sequence[tuple[int, int]], patch: int) -> Iterator[slice]:
    """Neighbours with at most `MOST_PATCHES` together, and at least one."""
    begin = patches = 0
    for place, (height, width) in enumerate(sizes):
        more = (height // patch) * (width // patch)
        if place > begin and patches + more > MOST_PATCHES:
            yield slice(begin, place)
            begin, patches = place, 0
        patches += more
    yield slice(begin, len(sizes))


def _joined(states: Sequence[tuple[Tensor | None, ...] | None]) -> tuple[Tensor | None, ...] | None:
    """Each layer's hidden states of all chunks in one row; None for a layer that nobody asked for."""
    kept = [one for one in states if one is not None]
    return tuple(_row(layer) for layer in zip(*kept, strict=True)) if kept else None


def _row(states: Sequence[Tensor | None]) -> Tensor | None:
    there = [one for one in states if one is not None]
    return torch.cat(there, 1) if there else None
