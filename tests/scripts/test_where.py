"""Tests of where a step's time goes: each operator is put under its kind, and the script runs. Nothing is timed."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import kinds
import pytest
import torch
import where
from torch import nn
from torch.profiler import ProfilerActivity, profile
from workloads import Workload

from tests.support.tiny_families.catalogue import save
from vlm_lit.models.attention import visible

SMALL = Workload(name="small", says="small", image_tokens=64, questions=2, batch=2)


def test_the_products_inside_a_4_bit_layer_are_counted_and_its_unpacking_apart() -> None:
    layer = bnb.nn.Linear4bit(64, 128, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.weight = bnb.nn.Params4bit(torch.randn(128, 64), requires_grad=False, quant_type="nf4")
    layer = layer.to("cpu")
    x = torch.randn(10, 64, requires_grad=True)
    weight = nn.Parameter(torch.randn(3))
    optimizer = torch.optim.AdamW([weight])
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True) as found:
        layer(x).sum().backward()
        weight.grad = torch.ones(3)
        optimizer.step()
        list(torch.utils.data.DataLoader(torch.arange(4)))  # type: ignore[arg-type]
    split = kinds.split(found.events(), 10.0)
    assert kinds.counts(found.events())["flops"] == 2 * (2 * 10 * 64 * 128)  # forward, and the gradient of the inputs
    for kind in ("products", "unpacking", "element_wise", "optimizer", "data"):
        assert split["seconds"][kind] > 0, kind
    assert sum(split["seconds"].values()) == pytest.approx(10.0)


def test_products_that_the_profiler_counts_nothing_for() -> None:
    x, weight, low, b = torch.randn(10, 64), torch.randn(128, 64), torch.randn(10, 4), torch.randn(128, 4)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True) as found:
        product = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        product.addmm_(low, b.T, alpha=2.0)
    assert kinds.counts(found.events())["flops"] == 2 * (10 * 64 * 128 + 10 * 4 * 128)
    split = kinds.split(found.events(), 10.0)
    assert split["seconds"]["products"] > 0
    assert not {"mkldnn::_linear_pointwise", "aten::addmm_"} & split["operators"].keys()


def test_the_pairs_that_attention_computes_are_counted() -> None:
    q = torch.randn(2, 3, 8, 16)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        nn.functional.scaled_dot_product_attention(q, q, q)
        nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    assert kinds.counts(found.events())["pairs"] == 2 * 3 * (8 * 8 + 8 * 9 / 2)


def test_the_pairs_that_a_row_needs_are_those_its_mask_shows() -> None:
    segments = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 0, 0]])
    valid = torch.tensor([[1] * 8, [1] * 6 + [0] * 2])
    shown = visible(segments, valid.bool()) & valid.bool()[:, :, None]
    assert kinds.seen_pairs({"attention_mask": valid}, segments) == int(shown.sum())


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("side", ["ours", "answers"])
def test_a_run_says_where_its_time_went(side: str, tmp_path: Path) -> None:
    run = where.asked(SMALL, side, 1, tmp_path / "files")
    run["checkpoint"] = str(save("llava", tmp_path))  # a tiny model in the place of the benchmark's
    found = where.judged(where.profiled(run, tmp_path, threads=1))
    assert sum(found["shares"].values()) == pytest.approx(1.0)
    assert found["flops"] > 0
    assert found["pairs"] > 0
    assert found["peak_flops"] > 0
    assert all(found["seconds"][kind] > 0 for kind in ("products", "attention", "unpacking", "element_wise", "python"))
    if side == "ours":
        assert found["seen"] > 0
        assert found["seconds"]["optimizer"] > 0
