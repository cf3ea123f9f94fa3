"""Tests of rows joined into one: every family's gradients, nothing computed of padding, where rows stay apart."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from tests.support import family_cases as cases
from tests.support.family_cases import TINY
from tests.support.family_checks.checks_training import same_gradients
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.models import attention, causal_attention, hidden_states, joined_rows
from vlm_lit.models.compiled_layers import compile_layers
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.joined_rows import joinable
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.schema import StepBatch, TokenBatch
from vlm_lit.training.supervised import SupervisedModule

JOINED = sorted(name for name in TINY if FAMILIES[TINY[name].model_type].unpackable is None)
APART = sorted(TINY.keys() - {*JOINED})


def batch_of(folder: Path, *, packed: bool, turns: bool = True) -> TokenBatch:
    """Rows of different lengths in one micro-batch, with the questions about an image in one row or not."""
    encoder = cases.encoder(folder)
    talks = [*cases.about_one_picture(1, questions=3), cases.conversation(1, 3 if turns else 1, 5)]
    talks = talks if turns else talks[::2]
    step_batch = StepCollator(encoder, OverLengthPolicy(encoder, None, "error"), 8, packing=packed)(talks)
    assert isinstance(step_batch, StepBatch)
    (batch,) = step_batch.micro_batches
    return batch


@contextmanager
def watched(module: SupervisedModule) -> Iterator[list[tuple[int, ...]]]:
    """The shapes [B, L] that the first decoder layer is given."""
    assert module.family is not None
    shapes: list[tuple[int, ...]] = []
    first, *_ = module.base.get_submodule(module.family.decoder_layers).children()
    hook = first.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape[:2])))
    yield shapes
    hook.remove()


@pytest.mark.parametrize("chunk", [4, 96])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", JOINED)
def test_gradients_of_every_family(
    name: str, packed: bool, chunk: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal_attention, "CHUNK", chunk)
    module = cases.module(folders[name])
    module.train()
    batch = batch_of(folders[name], packed=packed)
    tokens = int(batch.inputs["attention_mask"].sum())
    assert tokens < batch.labels.numel()
    with watched(module) as shapes:
        found = cases.gradients(module, batch)
    assert shapes == [(1, tokens)]
    with patch.object(hidden_states, "joinable", lambda *_: False), watched(module) as shapes:
        same_gradients(found, cases.gradients(module, batch))
    assert shapes == [tuple(batch.labels.shape)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("changed", ["checkpointing", "whole last layer", "autocast"])
@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_gradients_otherwise(
    name: str, changed: str, packed: bool, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, batch = cases.module(folders[name], checkpointing=changed == "checkpointing"), None
    module.train()
    if changed == "whole last layer":
        monkeypatch.setattr(hidden_states, "FEW", 0.0)
    batch = batch_of(folders[name], packed=packed)
    with torch.autocast("cpu", enabled=changed == "autocast"):
        found = cases.gradients(module, batch)
        with patch.object(hidden_states, "joinable", lambda *_: False):
            expected = cases.gradients(module, batch)
    if changed == "autocast":  # in bfloat16, which has three digits
        largest = max(float(grad.abs().max()) for grad in expected.values() if grad is not None)
        for key, grad in expected.items():
            if grad is not None:
                torch.testing.assert_close(found[key], grad, rtol=0.05, atol=0.02 * largest, msg=key)
    else:
        same_gradients(found, expected)


@pytest.mark.parametrize("name", APART)
def test_families_whose_rows_cannot_be_packed_stay_apart(name: str, folders: dict[str, Path]) -> None:
    module, batch = cases.module(folders[name]), batch_of(folders[name], packed=False, turns=TINY[name].turns)
    assert module.family is not None
    assert not joinable(module.base, module.family, batch.inputs)


_CASES = ["no padding", "nothing but padding", "padding on the left", "too long"]
_CASES += ["eager", "dropout", "compiled", "put aside", "unknown field"]


@pytest.mark.parametrize("case", [None, *_CASES])
def test_where_rows_stay_apart(case: str | None, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    module = cases.module(folders["llava"])
    module.train()
    assert module.family is not None
    inputs: dict[str, Any] = dict(batch_of(folders["llava"], packed=False).inputs)
    mask = inputs["attention_mask"]
    if case == "no padding":
        inputs["attention_mask"] = torch.ones_like(mask)
    if case == "nothing but padding":
        inputs["attention_mask"] = torch.cat([mask[:-1], torch.zeros_like(mask[-1:])])
    if case == "padding on the left":
        inputs["attention_mask"] = mask.flip(1)
    if case == "too long":
        monkeypatch.setattr(joined_rows, "MOST_TOKENS", int(mask.sum()) - 1)
    if case == "eager":
        module.base.set_attn_implementation("eager")  # type: ignore[operator]
    if case == "dropout":
        layer: Any = module.base.get_submodule(module.family.decoder_layers)[0]  # type: ignore[index]
        layer.drops = nn.Dropout(0.1)
    if case == "compiled":
        compile_layers(module.base, module.family)
    if case == "unknown field":
        inputs["weight_of_each_token"] = torch.ones_like(mask)
    if case == "put aside":
        with plain_layers():
            assert not joinable(module.base, module.family, inputs)
    else:
        assert joinable(module.base, module.family, inputs) == (case is None)


def test_rows_do_not_see_each_other(folders: dict[str, Path]) -> None:
    """What stands in one row changes no other row's loss: the mask alone says so, where attention is not in chunks."""
    module = cases.module(folders["llava"])
    batch = batch_of(folders["llava"], packed=True)
    with torch.no_grad():
        found = module.supervised_states(batch)
        with patch.object(causal_attention, "_chunked", lambda *_: False):
            by_mask = module.supervised_states(batch)
    torch.testing.assert_close(by_mask, found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_masks_do_not_outlive_their_step(joined: bool, packed: bool, folders: dict[str, Path]) -> None:
    """Circles of objects are looked for rarely, and a mask is as large as a row's tokens squared."""
    module, batch = cases.module(folders["llava"]), batch_of(folders["llava"], packed=packed)
    marked: list[weakref.ref[Tensor]] = []

    def noted(mask: Tensor, *others: Any) -> Tensor:
        marked.append(weakref.ref(mask))
        return causal_attention.mark_causal(mask, *others)

    gc.collect()
    gc.disable()
    try:
        with (
            patch.object(hidden_states, "joinable", lambda *_: joined),
            patch.object(attention, "mark_causal", noted),
            patch.object(joined_rows, "mark_causal", noted),
        ):
            cases.gradients(module, batch)
        assert len(marked) == (joined or packed)
        assert not any(mask() is not None for mask in marked)
    finally:
        gc.enable()
