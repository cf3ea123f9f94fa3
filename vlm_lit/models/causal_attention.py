"""Causal attention on a CPU without the work that its mask throws away.

torch's kernel for CPUs multiplies every query of a row with every key (it leaves keys out in blocks of 512), whatever
mask is added to the scores. In causal attention no query sees a key behind itself. So a row's queries are taken in
chunks, each with the keys up to its own end: for long rows half of the work, and what is left out was zero. Chunks end
at the same places whatever the mask says, so a row of several questions gains as a plain one does.

Rows that stand one behind the other in one (`joined_rows.py`) are attended to one by one.

transformers' function for `sdpa` is replaced by one that does so where it may, and asks the old one everywhere else: on
other devices, with masks that are not known to be causal, where a cache holds earlier keys.

B = rows, H = heads, L = tokens, D = width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from vlm_lit.models.plain_layers import put_aside

CHUNK: Final = 96
"""Queries taken together. Fewer compute less in vain and start more small products. The kernel takes 32 queries at once
from fewer than 192, and 64 from there on, which is faster once the keys are many: on an AMD EPYC with 64 wide heads
chunks of 96 did best at 281, 376 and 460 tokens (1.11, 1.21 and 1.27 times as fast as all at once, backward pass
included), chunks of 192 at 920 (1.56 times)."""
_LONG: Final = 768
"""Tokens from which chunks are twice as large."""
_CAUSAL: Final = "_vlm_lit_causal"


@dataclass(frozen=True)
class Stretch:
    """A part of a row whose tokens see no other part.

    Args:
        begin, end: where it stands.
        mask: who is seen in it [B or 1, 1, end - begin, end - begin]; None where that is all that stands before.
    """

    begin: int
    end: int
    mask: Tensor | None


def mark_causal(mask: Tensor, stretches: Sequence[Stretch] = ()) -> Tensor:
    """The same mask [B, 1, L, L], from now on known to hide every key behind its query.

    Args:
        mask: who is seen.
        stretches: the parts of the row that do not see each other, one behind the other; none where it is whole.
    """
    setattr(mask, _CAUSAL, tuple(stretches))  # not the mask itself: a circle would outlive its step
    return mask


def attend_in_chunks() -> None:
    """Let all models of this process that attend by `sdpa` attend in chunks where that saves work."""
    AttentionInterface.register("sdpa", _attend)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401 - whatever each model passes on
) -> tuple[Tensor, None]:
    """Attention [B, L, H, D] of queries [B, H, L, D], as transformers asks for it."""
    if not _chunked(module, query, key, value, attention_mask, options):
        old: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return old
    groups = query.shape[1] // key.shape[1]
    given = [query, repeat_kv(key, groups), repeat_kv(value, groups)]
    if torch.is_autocast_enabled("cpu"):  # as torch does for its own function
        given = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in given]
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    stretches = getattr(attention_mask, _CAUSAL, ()) or (Stretch(0, query.shape[2], attention_mask),)
    attended: Tensor = _InChunks.apply(*given, stretches, scale)  # type: ignore[no-untyped-call]
    return attended.transpose(1, 2).contiguous(), None


def _chunked(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> bool:
    """Whether a call may be answered in chunks, and gains by it."""
    causal = options.get("is_causal")
    known = hasattr(mask, _CAUSAL) if mask is not None else (
        getattr(module, "is_causal", True) if causal is None else causal
    )  # fmt: skip
    return (
        bool(known)
        and not put_aside()
        and query.device.type == "cpu"
        and CHUNK < query.shape[2] == key.shape[2]
        and query.shape[-1] == value.shape[-1]
        and (torch.is_autocast_enabled("cpu") or query.dtype == key.dtype == value.dtype)
        and not options.get("dropout")
        and all(options.get(name) is None for name in ("softcap", "position_bias"))
        and not torch.compiler.is_compiling()
    )


def _chunks(length: int) -> list[tuple[int, int]]:
    """Where each chunk begins and ends: full ones at the end, where they see most keys, what is left before them."""
    size = CHUNK if length < _LONG else 2 * CHUNK
    ends = range(length, 0, -size)
    return [(max(0, end - size), end) for end in reversed(ends)]


@cache
def _triangle(dtype: torch.dtype, chunk: int) -> Tensor:
    """The mask [C, C] of the last keys of a chunk of plain causal attention."""
    return torch.full((chunk, chunk), -torch.inf, dtype=dtype).triu_(1)


def _part(mask: Tensor | None, query: Tensor, begin: int, end: int) -> Tensor:
    """The additive mask of a chunk's queries and the keys up to its end."""
    if mask is not None:
        part = mask[:, :, begin:end, :end]
        if part.dtype != torch.bool:
            return part.to(query.dtype)
        return torch.zeros(part.shape, dtype=query.dtype).masked_fill_(~part, -torch.inf)
    size = end - begin
    seen = query.new_zeros(1, 1, size, end)
    seen[..., begin:] = _triangle(query.dtype, size)
    return seen


class _InChunks(torch.autograd.Function):
    """Attention [B, H, L, D] of queries, keys and values [B, H, L, D], by torch's own kernel for CPUs."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        query: Tensor,
        key: Tensor,
        value: Tensor,
        stretches: tuple[Stretch, ...],
        scale: float,
    ) -> Tensor:
        whole = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        sums = []
        for at in stretches:
            for a, b in _chunks(at.end - at.begin):
                own, keys = slice(at.begin + a, at.begin + b), slice(at.begin, at.begin + b)
                whole[:, :, own], norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    query[:, :, own], key[:, :, keys], value[:, :, keys],
                    attn_mask=_part(at.mask, query, a, b), scale=scale,
                )  # fmt: skip
                sums.append(norm)
        ctx.save_for_backward(query, key, value, whole, *sums)
        ctx.stretches, ctx.scale = stretches, scale
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        query, key, value, whole, *sums = ctx.saved_tensors
        of_query, of_rest = torch.empty_like(query), list[list[Tensor]]()
        for at in reversed(ctx.stretches):
            # From the last chunk on: its keys are all of the stretch's, so the others' are added to what it gives.
            of_stretch = list[Tensor]()
            for a, b in reversed(_chunks(at.end - at.begin)):
                own, keys = slice(at.begin + a, at.begin + b), slice(at.begin, at.begin + b)
                of_query[:, :, own], *more = (
                    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                        grad[:, :, own], query[:, :, own], key[:, :, keys], value[:, :, keys], whole[:, :, own],
                        sums.pop(), 0.0, False, attn_mask=_part(at.mask, query, a, b), scale=ctx.scale,
                    )
                )  # fmt: skip
                for all_keys, first_keys in zip(of_stretch, more, strict=False):
                    all_keys[:, :, :b] += first_keys
                of_stretch = of_stretch or more
            of_rest.insert(0, of_stretch)
        of_keys = [parts[0] if len(parts) == 1 else torch.cat(parts, 2) for parts in zip(*of_rest, strict=True)]
        return of_query, *of_keys, None, None
