"""Layers of our own put aside for a while: transformers' and PEFT's forward passes run, as if none had been replaced.

What asks here: attention in chunks (`causal_attention.py`), the last layer where it is read (`last_layer.py`), joined
element-wise work (`element_wise.py`), LoRA over 4-bit layers (`adapted_4bit.py`), products with frozen weights
(`frozen_products.py`), rows in one (`joined_rows.py`), towers in chunks (`tower_chunks.py`), their element-wise work
(`tower_element_wise.py`) and blocks that nobody reads (`unread_blocks.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Of the process: on a GPU, what is computed again in a backward pass is computed in a thread of torch's.
_aside = False


def put_aside() -> bool:
    """Whether layers of our own are put aside."""
    return _aside


@contextmanager
def plain_layers() -> Iterator[None]:
    """Forward and backward passes of the block by the libraries' own layers."""
    global _aside
    before, _aside = _aside, True
    try:
        yield
    finally:
        _aside = before
