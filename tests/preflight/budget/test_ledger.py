"""Tests of the ledger: bytes count while they are alive, told apart by whether they grow with the rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vlm_lit.models.shapes import fake_mode
from vlm_lit.preflight.budget.ledger import Bytes, Ledger, Peak, telling_rows


def test_storages_count_while_they_live_and_views_do_not() -> None:
    with Ledger(1) as ledger:
        kept = torch.ones(100)
        view = kept[10:].t()
        assert ledger.now.at(1) == 400
        more = torch.ones(50)
        del more
        assert ledger.now.at(1) == 400
        del kept  # the view holds the storage
        assert ledger.now.at(1) == 400
        del view
        assert ledger.now.at(1) == 0
    assert ledger.peak.at(1) == 600


def test_what_is_counted_elsewhere_is_not_counted_again() -> None:
    weight = torch.ones(64, 64)
    with Ledger(1, [weight]) as ledger:
        product = weight.t() @ weight[:, :2]
    assert ledger.now.at(1) == product.numel() * 4


def test_what_a_function_holds_besides_its_saved_tensors_is_counted() -> None:
    class Keeping(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.copy = x * 2  # type: ignore[attr-defined]
            return x.new_empty(1)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, _gradient: Tensor) -> Tensor:
            return ctx.copy  # type: ignore[attr-defined, no-any-return]

    given = torch.ones(1000, requires_grad=True)
    with Ledger(1, [given]) as ledger:
        out = Keeping.apply(given)  # type: ignore[no-untyped-call, unused-ignore]
        assert ledger.now.at(1) == 4004
        del out
        assert ledger.now.at(1) == 0


def step(layers: nn.Module, rows: int, width: int) -> Ledger:
    ledger = Ledger(rows, layers.parameters())
    with ledger:
        layers(torch.empty(rows, 5, width)).sum().backward()
    return ledger


def test_one_pass_with_telling_rows_knows_the_peak_of_any_other() -> None:
    # Wide layers and few rows: which moment is the highest changes with the rows.
    with fake_mode():
        layers = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 64), nn.Linear(64, 2048))
        rows = telling_rows([*(p.numel() for p in layers.parameters()), 5])
        told = step(layers, rows, 64).peak
        for parameter in layers.parameters():
            parameter.grad = None
        for other in (1, 2, 7, 100):
            seen = step(layers, other, 64).peak.at(other)
            assert told.at(other) == seen
            for parameter in layers.parameters():
                parameter.grad = None
    assert len(told.moments) > 1


@pytest.mark.parametrize(("sizes", "rows"), [([64, 4096], 13), ([13 * 64, 5], 17), ([13, 17, 0, 1], 19)])
def test_telling_rows_divide_nothing_else(sizes: list[int], rows: int) -> None:
    assert telling_rows(sizes) == rows


def test_the_highest_moment_changes_with_the_rows() -> None:
    peak = Peak((Bytes(fixed=0, per_row=10), Bytes(fixed=50, per_row=3)))
    assert [peak.at(rows) for rows in (1, 5, 10)] == [53, 65, 100]
    assert Peak(()).at(3) == 0


def in_pieces(rows: int) -> Ledger:
    """A pass in which each row is looked at on its own, as Qwen's attention looks at pictures."""
    ledger = Ledger(rows)
    with ledger:
        given = torch.empty(rows * 5, 7)
        kept = []
        for piece in given.split(5):  # type: ignore[no-untyped-call]
            doubled = piece * 2
            kept.append(doubled + (piece * 3).sum())
            del doubled
        torch.cat(kept)
    return ledger


def test_what_is_made_of_a_rows_part_grows_with_the_rows() -> None:
    with fake_mode():
        told = in_pieces(13).peak
        for rows in (1, 2, 7, 40):
            assert told.at(rows) == in_pieces(rows).peak.at(rows)
