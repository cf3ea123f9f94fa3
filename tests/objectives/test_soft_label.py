"""Tests of the classifier's loss against torch's own functions in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import ViltConfig, ViltForQuestionAnswering

from vlm_lit.objectives.soft_label import SoftLoss, soft_label_loss

B, N = 7, 13


def made() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(B, N, generator=generator, dtype=torch.float64)
    kept = torch.rand(B, N, generator=generator, dtype=torch.float64) < 0.3
    targets = torch.where(kept, torch.rand(B, N, generator=generator, dtype=torch.float64), 0.0)
    targets[:, 0] += 0.3
    return logits, targets


def test_binary_is_the_mean_times_the_answers_for_each_row() -> None:
    logits, targets = made()
    rows = [F.binary_cross_entropy_with_logits(x, t) * N for x, t in zip(logits, targets, strict=True)]
    assert float(soft_label_loss(logits, targets, "binary")) == pytest.approx(float(sum(rows)), rel=1e-6)


def test_softmax_is_the_cross_entropy_against_the_targets_shares() -> None:
    logits, targets = made()
    shares = targets / targets.sum(dim=1, keepdim=True)
    rows = [F.cross_entropy(x[None], t[None]) for x, t in zip(logits, shares, strict=True)]
    assert float(soft_label_loss(logits, targets, "softmax")) == pytest.approx(float(sum(rows)), rel=1e-6)
    one_hot = F.one_hot(torch.arange(B), N).double()
    hard = F.cross_entropy(logits, torch.arange(B), reduction="sum")
    assert float(soft_label_loss(logits, one_hot, "softmax")) == pytest.approx(float(hard), rel=1e-6)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_it_is_a_sum_over_rows_with_the_gradients_of_its_parts(kind: SoftLoss) -> None:
    logits, targets = made()
    whole = logits.clone().requires_grad_()
    soft_label_loss(whole, targets, kind).backward()  # type: ignore[no-untyped-call]
    parts = logits.clone().requires_grad_()
    for piece in (slice(0, 3), slice(3, B)):
        soft_label_loss(parts[piece], targets[piece], kind).backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    assert parts.grad is not None
    torch.testing.assert_close(whole.grad, parts.grad, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_it_is_computed_in_float32_whatever_the_logits_and_the_autocast(kind: SoftLoss) -> None:
    logits, targets = made()
    low = logits.bfloat16()
    expected = soft_label_loss(low.float(), targets.float(), kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_label_loss(low, targets.float(), kind)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_binary_is_the_loss_of_transformers_own_vilt_times_the_rows() -> None:
    torch.manual_seed(0)
    config = ViltConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=64, num_labels=N
    )
    model = ViltForQuestionAnswering(config).eval()
    _, targets = made()
    inputs = {"input_ids": torch.arange(B * 5).view(B, 5), "pixel_values": torch.randn(B, 3, 64, 64)}
    output = model(**inputs, labels=targets.float())
    found = soft_label_loss(output.logits, targets.float(), "binary") / B
    torch.testing.assert_close(found, output.loss, rtol=1e-6, atol=0)
