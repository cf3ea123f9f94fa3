"""Tests of the growing cache: it holds what transformers' own holds, and does not copy it for every token."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from vlm_lit.models.growing_cache import growing_cache

LAYERS = 2


def _appended(caches: list[Cache], tokens: int, rows: int) -> None:
    for layer in range(LAYERS):
        keys, values = torch.randn(rows, 2, tokens, 4), torch.randn(rows, 2, tokens, 4)
        found: list[tuple[Tensor, Tensor]] = [cache.update(keys, values, layer) for cache in caches]
        for other in found[1:]:
            assert torch.equal(other[0], found[0][0])
            assert torch.equal(other[1], found[0][1])


def test_it_holds_what_the_ordinary_one_holds() -> None:
    torch.manual_seed(0)
    caches = [growing_cache(), DynamicCache()]
    _appended(caches, 70, 3)
    for tokens in (2, 5, 90, 1):
        _appended(caches, tokens, 3)
    for cache in caches:
        cache.crop(-10)
    _appended(caches, 3, 3)
    for cache in caches:
        cache.batch_select_indices(torch.tensor([0, 2]))
    for tokens in (1, 1, 40):
        _appended(caches, tokens, 2)
    assert caches[0].get_seq_length() == caches[1].get_seq_length()


def test_tokens_go_behind_the_others_without_moving_them() -> None:
    cache = growing_cache()
    _appended([cache], 70, 3)
    places = []
    for _ in range(30):
        _appended([cache], 1, 3)
        places.append([layer.keys.data_ptr() for layer in cache.layers])
    assert all(place == places[0] for place in places)


def test_a_crop_keeps_what_stands_before_it() -> None:
    cache = growing_cache()
    keys = torch.randn(1, 1, 40, 4)
    for at in (slice(0, 20), slice(20, 40)):
        cache.update(keys[:, :, at], keys[:, :, at], 0)
    cache.crop(-15)
    found, _ = cache.update(keys[:, :, 25:26], keys[:, :, 25:26], 0)
    assert torch.equal(found, keys[:, :, :26])
