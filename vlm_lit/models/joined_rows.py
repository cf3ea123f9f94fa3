"""Rows of a batch one behind the other in one row without padding, for a training step on a CPU.

Rows of a batch differ in length, and what fills the shorter ones goes through every product of every layer like any
other token. In one row there is nothing to fill: all that is computed token by token is, and attention (`_InChunks` in
`causal_attention.py`) takes the rows one by one. A token's position is that in its own row, so the numbers are the
same, their sums rounded in another order.

Rows stay apart where attention cannot take them one by one: on other devices, where transformers' own mask would be as
large as all rows squared; in families whose rows cannot be packed; and where dropout acts, whose draws would be others.

B = rows, L = tokens of a row with its padding, T = tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from vlm_lit.models.attention import addable, causal_on_cpu, positions_of, unpackable_by, visible
from vlm_lit.models.causal_attention import Stretch, mark_causal
from vlm_lit.models.compiled_layers import CompiledLayer
from vlm_lit.models.families import Family
from vlm_lit.models.last_layer import drops
from vlm_lit.models.plain_layers import put_aside

MOST_TOKENS: Final = 4096
"""The longest joined row: its mask of who sees whom has 16 MB."""
_BY_TOKEN: Final = ("input_ids", "mm_token_type_ids", "token_type_ids")
_MASK: Final = "attention_mask"


def joinable(base: nn.Module, family: Family, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the rows of a batch can be joined, and have padding that joining saves.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        inputs: the batch's fields, `input_ids` and `attention_mask` [B, L] among them.
    """
    mask = inputs[_MASK]
    config = base.config
    assert isinstance(config, PreTrainedConfig)
    if put_aside() or not causal_on_cpu(base, mask, family) or unpackable_by(family, config, "sdpa"):
        return False
    by_token = [name for name, value in inputs.items() if value.shape == mask.shape]
    if not {*by_token} <= {*_BY_TOKEN, _MASK}:
        return False
    tokens = int(mask.sum())
    first = torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True)  # padding stands on the right
    if tokens > MOST_TOKENS or tokens == mask.numel() or not (mask[:, 0].all() and torch.equal(first, mask.bool())):
        return False
    layers = list(base.get_submodule(family.decoder_layers).children())
    return not any(isinstance(layer, CompiledLayer) or drops(layer) for layer in layers)


def joined_inputs(
    backbone: nn.Module, inputs: Mapping[str, Any], segments: Tensor | None, family: Family
) -> dict[str, Any]:
    """The model's keyword arguments for all rows in one: what is of a token [1, T], positions [1, T] or [4, 1, T].

    Args:
        backbone: the model without its head.
        inputs: as the processor made them, `input_ids` and `attention_mask` [B, L] among them.
        segments: which segment each token belongs to [B, L]; None for plain rows.
        family: how positions are counted.
    """
    real = inputs[_MASK].bool()
    own = torch.zeros_like(inputs["input_ids"]) if segments is None else segments
    positions = positions_of(backbone, inputs, own, family)
    lengths = real.sum(1).tolist()
    seen = torch.zeros(1, 1, sum(lengths), sum(lengths), dtype=torch.bool)
    stretches, begin = [], 0
    for row, length in zip(own, lengths, strict=True):
        end, shown = begin + length, visible(row[None, :length], real.new_ones(1, length))[:, None]
        seen[:, :, begin:end, begin:end] = shown
        stretches.append(Stretch(begin, end, None if segments is None else addable(shown, backbone)))
        begin = end
    return {
        **inputs,
        **{name: inputs[name][real][None] for name in _BY_TOKEN if name in inputs},
        _MASK: mark_causal(seen, stretches),
        "position_ids": positions.expand(*positions.shape[:-2], *real.shape)[..., real][..., None, :],
    }
