"""Products with frozen float32 weights by oneDNN, on processors where it is faster than MKL, which torch takes.

MKL runs processors that are not Intel's by instructions of older ones, and copies a weight before it multiplies. On an
AMD EPYC with AVX-512 and two threads oneDNN multiplied 1,540 tokens by weights of 512 x 512 to 4096 x 4096 1.1 to 1.2
times as fast, and 4 tokens by 4096 x 4096 twice as fast. Small weights are left to MKL where tokens are few, the fewest
tokens always, and so is everything but float32 on a CPU. The sums are the same, rounded in another order.

N = tokens, I = inputs, O = outputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vlm_lit.models.class_before import class_before
from vlm_lit.models.plain_layers import put_aside
from vlm_lit.models.quantization import packed_state

FEWEST_TOKENS: Final = 4
FEWEST_WEIGHTS: Final = 512 * 512
"""From here on oneDNN was faster or as fast, up to a head of 32,000 words. `scripts/benchmark/products.py` measures
it."""
MANY_TOKENS: Final = 512
"""From here on it was faster with weights of any size: 1.0 to 1.1 times at 770 tokens, 1.2 to 1.3 at 5,120, and with
the narrow ones of LoRA, which MKL multiplies worst, up to twice. Below, small weights were as often slower."""
_CACHES: Final = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KEPT: Final = "64"
"""Shapes whose preparation is kept: those of a step of one length several times over. oneDNN and torch's layer over it
keep 1,024 each otherwise, 0.3 MB a shape, and rows of other lengths are other shapes."""


@cache
def onednn_is_faster() -> bool:
    """Whether this process runs where it was measured: on an AMD processor with AVX-512."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 has none
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and str(capabilities.get("cpu_name", "")).startswith("AMD")
        and bool(capabilities.get("avx512_f"))
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def multiplied(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The outputs [N, O] of inputs [N, I] and a weight [O, I], which may be a view of its transpose.

    For functions of autograd: oneDNN's product has no backward pass of its own.
    """
    return (onednn_linear if _suits(x, weight.numel()) else nn.functional.linear)(x, weight, bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: str | None = None) -> Tensor:
    """The outputs [..., O] by oneDNN, of inputs [..., I] and a weight [O, I]; torch has no public name for it.

    Args:
        x, weight, bias: as those of `torch.nn.functional.linear`.
        gelu: compute the GELU of each output, in torch's approximation of that name.
    """
    after = ("none", "") if gelu is None else ("gelu", gelu)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after[0], [], after[1])
    return product


def unpacks_alike(layer: nn.Module, x: Tensor) -> bool:
    """Whether a 4-bit layer multiplies inputs [..., I] by its weight as it is unpacked, with nothing of it trained."""
    state = packed_state(layer)
    return (
        isinstance(state, QuantState)
        and not getattr(state, "packing_format_for_cpu", False)
        and x.dtype == state.dtype == layer.compute_dtype
        and _frozen_alike(x, layer.bias)  # type: ignore[arg-type]
    )


def _suits(x: Tensor, weights: int) -> bool:
    """Whether inputs [..., I] and a float32 weight of so many numbers are oneDNN's."""
    return (
        not torch.compiler.is_compiling()  # first: what follows cannot be compiled
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() >= (FEWEST_TOKENS if weights >= FEWEST_WEIGHTS else MANY_TOKENS) * x.shape[-1] > 0
        and onednn_is_faster()
        and bool(torch.backends.mkldnn.enabled)  # the user's switch
        and not (torch.is_autocast_enabled("cpu") or put_aside())
    )


class FrozenLinear(nn.Module):
    """What is put before the class of a linear layer: its outputs by oneDNN while nothing of it is trained."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - torch's
        """The outputs [..., O] of inputs [..., I]."""
        if not self.takes(x):
            return super().forward(x)
        return _Multiplied.apply(x, self.weight.detach(), None, self.bias)  # type: ignore[no-untyped-call]

    def takes(self, x: Tensor) -> bool:
        """Whether inputs [..., I] are multiplied by oneDNN."""
        weight = self.weight
        return (
            weight.dtype == torch.float32
            and not weight.requires_grad
            and _frozen_alike(x, self.bias)
            and _suits(x, weight.numel())
        )


class Frozen4bit(nn.Module):
    """What is put before the class of a 4-bit layer: its outputs by oneDNN, of the weight that is unpacked when
    needed."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - bitsandbytes'
        """The outputs [..., O] of inputs [..., I]."""
        state: Any = packed_state(self)
        if not unpacks_alike(self, x) or not _suits(x, math.prod(state.shape)):
            return super().forward(x)
        return _Multiplied.apply(x, self.weight.detach(), state, self.bias)  # type: ignore[no-untyped-call]


class _Multiplied(torch.autograd.Function):
    """Outputs [..., O] of inputs [..., I] and a frozen weight, [O, I] or packed in 4 bits."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        weight: Tensor,
        state: QuantState | None,
        bias: Tensor | None,
    ) -> Tensor:
        # Not among the saved: a weight that is split over processes is gathered anew for the backward pass.
        ctx.weight, ctx.state = weight, state
        out = multiplied(x.reshape(-1, x.shape[-1]), _unpacked(weight, state), bias)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        of_x = multiplied(grad.reshape(-1, grad.shape[-1]), _unpacked(ctx.weight, ctx.state).T)
        return of_x.view(*grad.shape[:-1], -1), None, None, None


def multiply_frozen(model: nn.Module) -> None:
    """Let every dense and 4-bit linear layer of a model be multiplied by oneDNN, where that is faster."""
    if not onednn_is_faster():
        return
    for name in _CACHES:  # read when the first product is prepared
        os.environ.setdefault(name, _KEPT)
    for module in model.modules():
        kind = type(module)
        if kind is nn.Linear:
            module.__class__ = class_before(FrozenLinear, kind)
        elif kind is bnb.nn.Linear4bit:
            module.__class__ = class_before(Frozen4bit, kind)


def _frozen_alike(x: Tensor, bias: Tensor | None) -> bool:
    return bias is None or (bias.dtype == x.dtype and not bias.requires_grad)


def _unpacked(weight: Tensor, state: QuantState | None) -> Tensor:
    return weight if state is None else dequantize_4bit(weight, state)
