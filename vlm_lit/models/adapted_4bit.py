"""A 4-bit layer with its LoRA update as one function of autograd: y = W x + bias + scale * B (A x).

PEFT computes the update by a module each for A and B, and copies, scales and adds arrays as wide as the layer's output
on the way; so does its backward pass. Here the update is added within the products, forward and backward, and besides
the layer's input only A x is kept. The sums are the same, rounded in another order.

Where anything is asked that this does not do (dropout in training, several adapters, DoRA, merged or switched off
adapters, another dtype, autocast, another device than a CPU, on which it has not been measured), PEFT's own forward
pass runs.

N = tokens, I = inputs, O = outputs, R = rank.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from peft.tuners.lora.bnb import Linear4bit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vlm_lit.models.frozen_products import Frozen4bit, multiplied, unpacks_alike
from vlm_lit.models.plain_layers import put_aside
from vlm_lit.models.quantization import packed_state


class Adapted4bit(Linear4bit):  # type: ignore[misc]
    """PEFT's LoRA layer over a 4-bit one, which takes the short way where it can."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - PEFT's signature
        """The outputs [..., O] of inputs [..., I]."""
        name = None if args or kwargs else self._only_adapter(x)
        if name is None:
            whole: Tensor = super().forward(x, *args, **kwargs)
            return whole
        base = self.get_base_layer()
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            base.weight.detach(),
            packed_state(base),
            base.bias,
            self.scaling[name],
        )
        return out

    def _only_adapter(self, x: Tensor) -> str | None:
        """The one adapter in use, where the short way gives what PEFT would; None where PEFT must do it."""
        if put_aside() or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        (name,) = self.active_adapters
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return None
        dropout, base = self.lora_dropout[name], self.get_base_layer()
        plain = (
            (type(base) is bnb.nn.Linear4bit or isinstance(base, Frozen4bit))
            and unpacks_alike(base, x)
            and (isinstance(dropout, nn.Identity) or not self.training)
            and x.device.type == "cpu"
            and x.numel() > 0
            and x.dtype == self.lora_A[name].weight.dtype
            and not torch.is_autocast_enabled("cpu")
        )
        return name if plain else None


class _Adapted(torch.autograd.Function):
    """Outputs [..., O] of inputs [..., I], A [R, I], B [O, R] and a frozen weight that is unpacked when needed."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        a: Tensor,
        b: Tensor,
        packed: Tensor,
        state: QuantState,
        bias: Tensor | None,
        scale: float,
    ) -> Tensor:
        inputs = x.reshape(-1, x.shape[-1])
        low = multiplied(inputs, a)
        out = multiplied(inputs, dequantize_4bit(packed, state), bias)
        out.addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(x, low, a, b)
        # Not among the saved: a weight that is split over processes is gathered anew for the backward pass.
        ctx.packed, ctx.state, ctx.scale = packed, state, scale
        whole: Tensor = out.view(*x.shape[:-1], -1)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        x, low, a, b = ctx.saved_tensors
        inputs, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        of_low = multiplied(grads, b.T).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = multiplied(grads, dequantize_4bit(ctx.packed, ctx.state).T).addmm_(of_low, a).view_as(x)
        # Both with R rows: the other way round, R columns, takes MKL up to seven times as long.
        of_a, of_b = multiplied(of_low.T, inputs.T), multiplied(low.T, grads.T).mul_(ctx.scale).T
        return of_x, of_a, of_b, None, None, None, None


def take_the_short_way(model: nn.Module) -> None:
    """Let every LoRA layer over a 4-bit one take the short way where it can."""
    for module in model.modules():
        if type(module) is Linear4bit:
            module.__class__ = Adapted4bit
