"""Costs of items in tokens, from what is known of their lengths before any image is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.image_tokens import image_tokens_of
from vlm_lit.data.dealing import ItemCost, ItemSize

UNCOUNTED: Final = 576
"""Tokens that an image is taken to cost where its size or the processor's arithmetic is not known: LLaVA-1.5's."""


def item_costs(sizes: Sequence[ItemSize] | None, processor: ProcessorMixin | None) -> list[ItemCost] | None:
    """What each item costs; None where no length is known.

    Args:
        sizes: how long each item is.
        processor: whose tokens stand for an image; None where images stand for none.
    """
    if sizes is None:
        return None
    each = _picture_tokens({size for item in sizes for size in item.images if size is not None}, processor)
    return [ItemCost(words, len(images), sum(each.get(size, UNCOUNTED) for size in images)) for words, images in sizes]


def _picture_tokens(sizes: set[tuple[int, int]], processor: ProcessorMixin | None) -> dict[tuple[int, int] | None, int]:
    """The tokens of a picture of each size; empty where nobody can say."""
    counted = image_tokens_of(processor) if processor is not None and sizes else None
    if counted is None:
        return {}
    ordered = sorted(sizes)
    try:
        return dict[tuple[int, int] | None, int](zip(ordered, counted.of(ordered), strict=True))
    except ValueError:  # a picture that the processor will refuse, by name, when it comes to it
        return {}
