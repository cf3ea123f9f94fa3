"""Attention of few queries over many keys, where several query heads share a head of keys and values.

With grouped-query attention G = Hq / Hk query heads look at the same keys. transformers repeats keys and values G times
for a call with a mask, in each layer and each decoding step: 7 times the cache of Qwen2.5-VL-7B. Here the G heads'
queries stand in one row instead, [B, Hk, G S, D], and look at the cache as it is: the same numbers.

B = rows, Hq, Hk = heads of queries and of keys, S = queries of a row, K = keys, D = width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig

_NAME: Final = "vlm_lit_grouped"


def heads_per_key(backbone: nn.Module) -> int:
    """How many of a model's query heads share a head of keys, where that can be used: 1 in another attention."""
    text = _text_config(backbone)
    if text._attn_implementation != "sdpa":
        return 1
    return int(text.num_attention_heads) // int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)


@contextmanager
def grouped(backbone: nn.Module) -> Iterator[None]:
    """Forward passes whose decoder layers attend this way; their mask is [B, 1, G S, K], once for each of the heads."""
    text = _text_config(backbone)
    before = text._attn_implementation
    text._attn_implementation = _NAME
    try:
        yield
    finally:
        text._attn_implementation = before


def _attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_others: object,
) -> tuple[Tensor, None]:
    """What queries [B, Hq, S, D] read from keys and values [B, Hk, K, D], as [B, S, Hq, D]."""
    queries = query.shape[2]
    folded = query.reshape(len(query), key.shape[1], -1, query.shape[3])
    assert attention_mask.shape[2] == folded.shape[2]
    found = nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    return found.reshape(len(query), -1, queries, value.shape[3]).transpose(1, 2).contiguous(), None


def _text_config(backbone: nn.Module) -> PreTrainedConfig:
    config = backbone.config
    assert isinstance(config, PreTrainedConfig)
    return config.get_text_config()


AttentionInterface.register(_NAME, _attend)
