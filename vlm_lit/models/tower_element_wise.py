"""Element-wise work of vision towers: patches in the order that blocks read, GELU within the product before it.

SigLIP's embeddings hand on a convolution's output seen the other way round. Every sum of the blocks keeps that order,
and every norm copies it first: on a CPU 4 % of the tower's time. In order from the start they copy nothing, and the
numbers are the same.

A frozen block's GELU is computed by oneDNN on what its product has just written, where that product is oneDNN's
(`frozen_products.py`) and nobody asks for a gradient; torch reads and writes the array once more.

N = images, P = patches, W = the tower's width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.siglip import modeling_siglip
from transformers.models.siglip.modeling_siglip import SiglipMLP

from vlm_lit.models.class_before import class_before
from vlm_lit.models.families import Family
from vlm_lit.models.frozen_products import FrozenLinear, onednn_linear
from vlm_lit.models.instructions import same_instructions
from vlm_lit.models.plain_layers import put_aside
from vlm_lit.models.tower_boundary import tower_blocks


class InOrder(nn.Module):
    """What is put before the class of a tower's first block."""

    def forward(self, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - transformers'
        """The block's output, of hidden states [N, P, W] laid out in that order."""
        if inputs and not put_aside():  # Llama-3.2's, which are in order, have a name
            inputs = (inputs[0].contiguous(), *inputs[1:])
        return super().forward(*inputs, **options)


class JoinedGelu(nn.Module):
    """What is put before the class of a feed-forward block of two products with GELU between them."""

    def forward(self, hidden: Tensor) -> Any:  # noqa: ANN401 - transformers'
        """The block's output [N, P, W]."""
        block: Any = self
        approximation = _approximation(block.activation_fn)
        asked = torch.is_grad_enabled() and hidden.requires_grad  # a gradient, which the product does not have
        frozen = isinstance(block.fc1, FrozenLinear) and block.fc1.takes(hidden)
        if approximation is None or asked or not frozen:
            return super().forward(hidden)
        return block.fc2(onednn_linear(hidden, block.fc1.weight, block.fc1.bias, approximation))


def order_tower(model: nn.Module, family: Family) -> None:
    """Let a vision tower's blocks have their input in order, and its frozen ones compute GELU within a product."""
    if not family.vision_tower:
        return
    path, _ = tower_blocks(model, family)
    blocks = model.get_submodule(path)
    first = next(blocks.children())
    first.__class__ = class_before(InOrder, type(first))
    for module in blocks.modules():
        if same_instructions(type(module).forward, SiglipMLP.forward, modeling_siglip.__file__):
            module.__class__ = class_before(JoinedGelu, type(module))


def _approximation(activation: nn.Module) -> str | None:
    """Which GELU a module of transformers is, in torch's words; None for anything else."""
    act = getattr(activation, "act", None)
    if act is nn.functional.gelu:
        return "none"
    tanh = isinstance(act, partial) and act.func is nn.functional.gelu and act.keywords == {"approximate": "tanh"}
    return "tanh" if tanh else None
