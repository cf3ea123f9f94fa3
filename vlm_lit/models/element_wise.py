"""Element-wise work of decoder layers, each piece as one function of autograd: RMS norm, SwiGLU, rotary positions.

transformers writes them as several operators each, of which every one reads and writes an array as large as the hidden
states, forward and backward, and keeps some for the backward pass. Here each is a few passes over its inputs, and what
is kept are the inputs. The sums are the same, rounded in another order.

A module takes this way if its own forward pass is, instruction by instruction, the one of Llama that is written anew
here (Mistral, Qwen2, Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Llama-3.2 have it too; Gemma has another norm); float32 on a
CPU, where it has been measured, and without autocast. Everywhere else its own forward pass runs.

B = rows, H = heads, L = tokens, D = width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from vlm_lit.models.class_before import class_before
from vlm_lit.models.instructions import same_instructions
from vlm_lit.models.plain_layers import put_aside

_ROTARY: Final = "apply_rotary_pos_emb"


def _here(*tensors: Tensor) -> bool:
    """Whether tensors are what this has been measured with."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors) and not (
        torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or put_aside()
    )


class JoinedNorm(nn.Module):
    """What is put before the class of an RMS norm."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden: Tensor) -> Any:  # noqa: ANN401 - transformers'
        """The normed hidden states [..., D]."""
        if not _here(hidden, self.weight):
            return super().forward(hidden)
        return _Normed.apply(hidden, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]


class _Normed(torch.autograd.Function):
    """y = x * r * w [..., D], with r = 1 / sqrt(mean of x^2 + epsilon)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401 - torch's context
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed: Tensor = (x * scale).mul_(weight)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        x, weight, scale = ctx.saved_tensors
        of_x, of_weight = None, None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * x).mul_(scale).sum(tuple(range(x.dim() - 1)))
        if ctx.needs_input_grad[0]:
            weighted = grad * weight
            shared = torch.linalg.vecdot(weighted, x).unsqueeze(-1).div_(-x.shape[-1]).mul_(scale).mul_(scale)
            of_x = weighted.addcmul_(x, shared).mul_(scale)
        return of_x, of_weight, None


class JoinedFeedForward(nn.Module):
    """What is put before the class of a gated feed-forward block."""

    def forward(self, hidden: Tensor) -> Any:  # noqa: ANN401 - transformers'
        """The block's output [..., D]."""
        block: Any = self
        if not _here(hidden):
            return super().forward(hidden)
        gate, up = block.gate_proj(hidden), block.up_proj(hidden)
        return block.down_proj(_Gated.apply(gate, up) if _here(gate, up) else block.act_fn(gate) * up)  # type: ignore[no-untyped-call]


class _Gated(torch.autograd.Function):
    """silu(gate) * up [..., D]."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - torch's context
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), nn.functional.silu(gate).mul_(grad)


def _rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys [B, H, L, D] at their positions, by cosines and sines [B, L, D]."""
    if not _here(query, key, cos, sin) or cos.requires_grad or sin.requires_grad:
        return _their_rotation(query, key, cos, sin, unsqueeze_dim)
    angles = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotated.apply(query, *angles), _Rotated.apply(key, *angles)  # type: ignore[no-untyped-call]


_their_rotation: Final[Callable[..., tuple[Tensor, Tensor]]] = modeling_llama.apply_rotary_pos_emb


class _Rotated(torch.autograd.Function):
    """x * cos + (its halves exchanged, the first one negated) * sin [B, H, L, D]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        cos, sin = ctx.saved_tensors
        half = sin.shape[-1] // 2
        # What the first half gave to the second one comes back by the second one's sines, and the other way round.
        return _turned(grad, cos, torch.cat((sin[..., half:], sin[..., :half]), -1), 1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=sign)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:], value=-sign)
    return turned


def join_element_wise(model: nn.Module) -> None:
    """Let the norms, feed-forward blocks and rotary positions of a model take this way, where they are Llama's."""
    for module in list(model.modules()):
        kind = type(module)
        if _llamas(kind.forward, LlamaRMSNorm.forward):
            module.__class__ = class_before(JoinedNorm, kind)
        elif _llamas(kind.forward, LlamaMLP.forward) and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation"):
            module.__class__ = class_before(JoinedFeedForward, kind)
        elif hasattr(module, "q_proj"):
            file = sys.modules[kind.__module__]
            if _llamas(getattr(file, _ROTARY, None), _their_rotation):
                setattr(file, _ROTARY, _rotated)


def _llamas(one: object, other: Callable[..., Any]) -> bool:
    """Whether a function is the same instructions as one of Llama's."""
    return same_instructions(one, other, modeling_llama.__file__)
