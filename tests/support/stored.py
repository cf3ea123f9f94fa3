"""Images with made-up features, and the store that a tiny family's own tower fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vlm_lit.data.distinct_images import process_image
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import StoredImage
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.models.families import Family
from vlm_lit.models.vision_features import tower_features, tower_identity
from vlm_lit.schema import Conversation

IDENTITY = {"tower": "one"}


def image(number: int, *, size: int = 6) -> StoredImage:
    """An image whose every value says its number."""
    return StoredImage(
        features=(torch.full((1, size, 4), float(number)), torch.full((size, 2), -number, dtype=torch.bfloat16)),
        replacement=f"<start>{'<image>' * size}<end {number}>",
        fields={"image_grid_thw": torch.tensor([[1, number, 2]])},
        counts={"num_tiles": number},
    )


def filled(
    root: Path, base: nn.Module, family: Family, encoder: ConversationEncoder, shown: Sequence[Conversation]
) -> FeatureStore:
    """A store with the conversations' images, each passed through the tower alone."""
    store = FeatureStore(root, tower_identity(base, family))
    made = {}
    for alone in (replace(c, images=(ref,)) for c in shown for ref in c.images):
        look = process_image(encoder.processor, store.key(alone.images[0]), alone)
        made[look.key] = replace(look.image, features=tower_features(base, family, look.inputs))
    store.write(made)
    return store
