"""Vision tower without the blocks that nobody reads: LLaVA reads the last but one of CLIP's 24.

transformers runs all of them, and throws away what lies behind the last that `vision_feature_layer` names. Here these
pass on what they are given. Their weights stay where they are, in a merged checkpoint too.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from vlm_lit.models.class_before import class_before
from vlm_lit.models.families import Family
from vlm_lit.models.plain_layers import put_aside
from vlm_lit.models.tower_boundary import read_blocks, tower_blocks

_KNOWN: Final = (CLIPEncoderLayer, SiglipEncoderLayer)
"""Blocks that are given and give hidden states."""


class UnreadBlock(nn.Module):
    """What is put before the class of a block that nobody reads."""

    def forward(self, hidden: Tensor, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - transformers'
        """The hidden states [N, P, W] that it is given; N images, P patches, W the tower's width."""
        return super().forward(hidden, *inputs, **options) if put_aside() else hidden


def skip_unread_blocks(model: nn.Module, family: Family) -> None:
    """Let a tower's blocks behind the last one that the model reads do nothing."""
    if getattr(model.config, "vision_feature_layer", None) is None or not family.vision_tower:
        return
    path, there = tower_blocks(model, family)
    used, _ = read_blocks(model.config, there)
    for block in list(model.get_submodule(path).children())[used:]:
        if type(block) in _KNOWN:
            block.__class__ = class_before(UnreadBlock, type(block))
