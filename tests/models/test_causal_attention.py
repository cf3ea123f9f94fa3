"""Tests of attention in chunks: what torch's kernel gives for the whole row, and taken only where a row is causal."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vlm_lit.models import causal_attention
from vlm_lit.models.attention import visible
from vlm_lit.models.causal_attention import attend_in_chunks, mark_causal


class Attention(nn.Module):
    """What transformers' functions read off an attention layer."""

    def __init__(self, groups: int, *, is_causal: bool = True) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = groups, is_causal


def packed_mask(prefix: int, questions: int, each: int, dtype: torch.dtype) -> Tensor:
    """The additive mask of two rows of several questions, one of them padded."""
    row = [0] * prefix + [q for q in range(1, questions + 1) for _ in range(each)]
    segments = torch.tensor([row, row])
    segments[1, -each:] = 0
    valid = torch.ones_like(segments, dtype=torch.bool)
    valid[1, -each:] = False
    return torch.zeros(2, 1, len(row), len(row), dtype=dtype).masked_fill_(
        ~visible(segments, valid)[:, None], -torch.inf
    )


def drawn(length: int, groups: int) -> list[Tensor]:
    """Queries, keys and values [2, H, L, 16] as a model has them, which ask for gradients."""
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, length, heads, 16, generator=generator).transpose(1, 2).requires_grad_()
        for heads in (2 * groups, 2, 2)
    ]


def results(function: Any, layer: nn.Module, given: list[Tensor], mask: Tensor | None, **options: Any) -> list[Tensor]:
    """What a function gives, and the gradients of what went in."""
    out = function(layer, *given, mask, **options)[0]
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), given)]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("length", [97, 200, 800])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_chunks_give_what_the_whole_row_gives(groups: int, length: int, masked: bool, autocast: bool) -> None:
    given, layer = drawn(length, groups), Attention(groups)
    mask = packed_mask(length - 60, 3, 20, torch.bfloat16 if autocast else torch.float32) if masked else None
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = results(sdpa_attention_forward, layer, given, mask, scaling=0.3)
        with patch.object(causal_attention, "sdpa_attention_forward", None):  # so chunks it must be
            known = None if mask is None else mark_causal(mask)
            found = results(causal_attention._attend, layer, given, known, scaling=0.3)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride() or one is not found[0]
        bound = 2e-2 if autocast else 2e-6  # sums of up to 800 terms in another order
        assert float((one - other).abs().max()) <= bound * float(other.abs().max())


def test_chunks_can_be_computed_again_in_the_backward_pass() -> None:
    given, layer = drawn(200, 1), Attention(1)
    mask = mark_causal(packed_mask(140, 3, 20, torch.float32))
    plain = results(causal_attention._attend, layer, given, mask)

    def again(*arguments: Any) -> Any:
        return checkpoint(causal_attention._attend, *arguments, use_reentrant=False)

    for one, other in zip(results(again, layer, given, mask), plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "case", ["a mask that may show later keys", "no causal layer", "keys from a cache", "dropout", "a short row"]
)
def test_everything_else_is_asked_of_transformers_own_function(case: str) -> None:
    length = 60 if case == "a short row" else 200
    query, key, value = drawn(length, 1)
    if case == "keys from a cache":
        query = query[:, :, -100:]
    mask = torch.zeros(2, 1, length, length) if case == "a mask that may show later keys" else None
    if case == "keys from a cache":
        mask = mark_causal(torch.zeros(2, 1, 100, length))
    layer = Attention(1, is_causal=case != "no causal layer")
    options = {"dropout": 0.5} if case == "dropout" else {}
    with patch.object(causal_attention, "_InChunks", None):
        torch.manual_seed(0)
        found = causal_attention._attend(layer, query, key, value, mask, **options)[0]
        torch.manual_seed(0)
        assert torch.equal(found, sdpa_attention_forward(layer, query, key, value, mask, **options)[0])


def test_models_that_attend_by_sdpa_are_given_the_function() -> None:
    attend_in_chunks()
    assert AttentionInterface()["sdpa"] is causal_attention._attend
