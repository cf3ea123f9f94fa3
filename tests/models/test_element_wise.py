"""Tests of element-wise work in one function of autograd: what it gives, its gradients, and where it stays aside."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm

from vlm_lit.models import element_wise
from vlm_lit.models.element_wise import JoinedFeedForward, JoinedNorm, join_element_wise

SMALL = LlamaConfig(hidden_size=32, intermediate_size=80, num_attention_heads=4, num_key_value_heads=2)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


def gradients(function: Callable[..., Any], inputs: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """What a function gives, and the gradients of its inputs and weights."""
    found = function(*inputs)
    outputs = list(found) if isinstance(found, tuple) else [found]
    loss = torch.stack([(one * torch.linspace(-1, 2, one.numel()).view_as(one)).sum() for one in outputs]).sum()
    return [*(one.detach() for one in outputs), *torch.autograd.grad(loss, [*inputs, *weights])]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6 * float(other.abs().max()))


@pytest.mark.parametrize("kind", ["norm", "feed-forward"])
def test_a_module_and_its_gradients(kind: str) -> None:
    torch.manual_seed(0)
    plain: nn.Module = LlamaRMSNorm(32, eps=1e-5) if kind == "norm" else LlamaMLP(SMALL)
    with torch.no_grad():
        for weight in plain.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    joined = nn.ModuleList([deepcopy(plain)])
    join_element_wise(joined)
    assert isinstance(joined[0], JoinedNorm if kind == "norm" else JoinedFeedForward)
    hidden = drawn(2, 5, 32)
    found = gradients(joined[0], [hidden], list(joined.parameters()))
    expected = gradients(plain, [hidden], list(plain.parameters()))
    same(found, expected)
    with patch.object(element_wise, "_here", lambda *_: False):
        again = gradients(joined[0], [hidden], list(joined.parameters()))
    assert all(
        torch.equal(a, b) for a, b in zip(again, gradients(plain, [hidden], list(plain.parameters())), strict=True)
    )


@pytest.mark.parametrize("rows", [1, 2])
def test_rotary_positions_and_their_gradients(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", element_wise._their_rotation)
    join_element_wise(LlamaAttention(SMALL, 0))
    assert modeling_llama.apply_rotary_pos_emb is element_wise._rotated
    angles = drawn(rows, 7, 8).detach(), drawn(rows, 7, 8).detach() - 1  # not alike in both halves
    inputs = [drawn(2, 4, 7, 8), drawn(2, 2, 7, 8)]
    found = gradients(lambda q, k: modeling_llama.apply_rotary_pos_emb(q, k, *angles), inputs, [])
    same(found, gradients(lambda q, k: element_wise._their_rotation(q, k, *angles), inputs, []))


def test_other_modules_keep_their_own() -> None:
    class Shifted(LlamaRMSNorm):  # type: ignore[misc]
        def forward(self, hidden: Tensor) -> Tensor:
            return super().forward(hidden) + 1  # type: ignore[no-any-return]

    gelu = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=80, num_attention_heads=4, hidden_act="gelu"))
    others = nn.ModuleList([Gemma3RMSNorm(8), Shifted(8), gelu, nn.RMSNorm(8)])
    before = [type(module) for module in others]
    join_element_wise(others)
    assert [type(module) for module in others] == before
    assert not element_wise._llamas(Gemma3MLP.forward, LlamaRMSNorm.forward)


def test_other_numbers_go_their_own_way() -> None:
    norm, plain = nn.ModuleList([LlamaRMSNorm(16)]).bfloat16(), LlamaRMSNorm(16).bfloat16()
    join_element_wise(norm)
    hidden = drawn(3, 16).detach().bfloat16()
    assert torch.equal(norm[0](hidden), plain(hidden))
    with torch.autocast("cpu"):
        assert not element_wise._here(torch.ones(1))
    assert element_wise._here(torch.ones(1))
