"""Check that image placeholder tokens and image features of a conversation fit each other.

Most families put the projector's vectors in the place of the placeholder tokens, one for one. A family whose language
model looks at images by cross-attention has one placeholder an image instead, and as many features as an image has
tiles: there, each placeholder needs an image with a tile to look at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_lit.preflight.held_model import HeldModel


@dataclass(frozen=True, kw_only=True)
class ImageFit:
    """Placeholder tokens of a conversation against its image features; `unit` says what a feature is."""

    placeholders: int
    features: int
    fits: bool
    unit: str = "feature vectors"


def image_token_of(held: HeldModel) -> int | None:
    """The token id whose places the model fills with image features."""
    token = getattr(held.base.config, "image_token_id", None)
    return int(token) if token is not None else None


@torch.no_grad()
def image_fit(held: HeldModel, inputs: Mapping[str, Tensor]) -> ImageFit:
    """Count one conversation's placeholders, and run vision tower and projector on its images.

    Args:
        held: a loaded model.
        inputs: the conversation's tensors as the processor made them, a batch of one.
    """
    placeholders = inputs["input_ids"].flatten().tolist().count(image_token_of(held))
    if "pixel_values" not in inputs:
        return ImageFit(placeholders=placeholders, features=0, fits=placeholders == 0)
    if "cross_attention_mask" in inputs:
        return _cross_attended(held, inputs, placeholders)
    give: Callable[..., object] = held.family.backbone_of(held.base).get_image_features
    output = give(**_taken(give, inputs), return_dict=True)
    features = _vectors(getattr(output, "pooler_output", output))
    return ImageFit(placeholders=placeholders, features=features, fits=placeholders == features)


def _cross_attended(held: HeldModel, inputs: Mapping[str, Tensor], placeholders: int) -> ImageFit:
    tower = held.base.get_submodule(held.family.roots("vision_tower")[0])
    hidden: Tensor = tower(**_taken(tower.forward, inputs)).last_hidden_state  # [1, images, tiles, patches, width]
    # A tile that no token may look at is padding.
    seen = inputs["cross_attention_mask"].bool().any(1)[:, : hidden.shape[1], : hidden.shape[2]]
    fits = placeholders == int(seen.any(-1).sum())
    return ImageFit(placeholders=placeholders, features=int(seen.sum()), fits=fits, unit="image tiles, cross-attended")


def _taken(function: Callable[..., object], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = inspect.signature(function).parameters
    return {name: value for name, value in inputs.items() if name in names}


def _vectors(features: object) -> int:
    """Number of vectors in [..., width], or in several such."""
    if isinstance(features, Tensor):
        return features.numel() // features.shape[-1]
    assert isinstance(features, Sequence)
    return sum(_vectors(part) for part in features)
