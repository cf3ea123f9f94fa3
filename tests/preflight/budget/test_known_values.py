"""Tests of small numbers that a step on shapes alone still knows."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor

from vlm_lit.models.shapes import fake_mode
from vlm_lit.preflight.budget.known_values import KnownValues


def test_what_is_made_of_known_numbers_is_known() -> None:
    grid = torch.tensor([[1, 4, 6]])
    with fake_mode(), KnownValues():
        assert (grid.repeat(3, 1).prod(1) // 4).tolist() == [6, 6, 6]
        assert torch.arange(4).cumsum(0)[-1].item() == 6


def test_without_the_mode_it_is_not() -> None:
    with fake_mode(), pytest.raises(DataDependentOutputException):
        torch.ones(3).sum().item()


def test_what_meets_unknown_numbers_is_unknown() -> None:
    with fake_mode(), KnownValues():
        made = torch.empty(3, 4) * torch.ones(4)
        assert isinstance(made, FakeTensor)
        with pytest.raises(DataDependentOutputException):
            made.sum().item()


def test_a_known_mask_says_how_many_are_chosen() -> None:
    mask = torch.tensor([True, False, True])
    with fake_mode(), KnownValues():
        chosen = torch.empty(3, 4)[mask]
        assert isinstance(chosen, FakeTensor)
        assert chosen.shape == (2, 4)


def test_no_picture_is_taken_for_nothing_but_zeros() -> None:
    with fake_mode(), KnownValues():
        pixels = torch.empty(5, 3, 2, 2)
        real = (pixels == 0.0).sum(dim=(-1, -2, -3)) != 12
        assert real.tolist() == [True] * 5
        assert pixels[real].shape == pixels.shape
