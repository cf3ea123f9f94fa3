"""Tests of the benchmark of products: both ways give the same, each has its place in the table. Nothing is timed."""

from __future__ import annotations

import plots
import products
import pytest
import torch

from vlm_lit.models.frozen_products import onednn_linear


def test_both_ways_give_the_same() -> None:
    x, weight = torch.randn(5, 64), torch.randn(32, 64)
    torch.testing.assert_close(onednn_linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(onednn_linear(x @ weight.T, weight.T), x @ weight.T @ weight, rtol=1e-4, atol=1e-4)


def test_every_weight_has_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "WEIGHTS", ((32, 64), (64, 32)))
    monkeypatch.setattr(products, "TOKENS", (1, 7))
    found = products.measured(turns=3)
    assert [(one["outputs"], one["tokens"], one["direction"]) for one in found] == [
        (outputs, tokens, way) for outputs in (32, 64) for tokens in (1, 7) for way in ("forward", "backward")
    ]
    for number, one in enumerate(found):
        one["ratio"] = number
    head, _, *rows = plots.products_table({"products": found}).splitlines()
    assert head == "| weight, outputs x inputs | 1 token | 7 tokens |"
    assert rows[:2] == ["| 32 x 64, forward | 0.00 | 2.00 |", "| 32 x 64, gradient of the inputs | 1.00 | 3.00 |"]
    assert len(rows) == 4
