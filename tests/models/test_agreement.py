"""Tests of the distance between two models' logits: its figures are what they say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vlm_lit.errors import ConfigError
from vlm_lit.models.merge.agreement import compare, text_logits

IMAGE_TOKEN = 9


class Given(nn.Module):
    """A model whose logits [1, T, V] are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


def test_the_figures() -> None:
    a = torch.tensor([[1.0, -4.0], [0.0, 2.0], [3.0, 1.0]])
    b = torch.tensor([[1.0, -4.5], [1.0, 0.5], [3.0, 1.0]])
    found = compare(a, b)
    assert (found.difference, found.size, found.same_top, found.positions) == (1.5, 4.0, 2 / 3, 3)
    assert found.words == (
        "largest logit difference 1.5 at logits up to 4; the likeliest token is the same at 2 of 3 positions (66.7 %)"
    )


def test_image_placeholders_are_left_out() -> None:
    ids = torch.tensor([[5, IMAGE_TOKEN, IMAGE_TOKEN, 6]])
    logits = torch.arange(8.0).reshape(1, 4, 2)
    assert torch.equal(text_logits(Given(logits), {"input_ids": ids}, IMAGE_TOKEN), logits[0, [0, 3]])
    assert torch.equal(text_logits(Given(logits), {"input_ids": ids}, None), logits[0])


def test_logits_beyond_float16_are_refused() -> None:
    logits = torch.tensor([[[1e5, 0.0]]]).half()
    with pytest.raises(ConfigError, match=r"not finite numbers in this dtype\. Use --dtype bf16 or fp32"):
        text_logits(Given(logits), {"input_ids": torch.tensor([[5]])}, IMAGE_TOKEN)
