"""Family checks of training: parameter owners, quantization, gradients, packing, cache. See `checks.py`."""

# ruff: noqa: ARG001 - every check is asked in the same way

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support import stored
from tests.support.family_cases import TinyFamily
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.models import causal_attention, element_wise, hidden_states, last_layer
from vlm_lit.models.attention import unpackable
from vlm_lit.models.families import FAMILIES, PART_NAMES, names_of, owner_of
from vlm_lit.models.parts import PartSettings
from vlm_lit.schema import IGNORE_INDEX, Conversation, StepBatch


def paths(tiny: TinyFamily, folder: Path) -> str | None:
    """Every path leads somewhere, every parameter has exactly one owner, and no more lies behind the layers."""
    model, family = AutoModelForImageTextToText.from_pretrained(folder), FAMILIES[tiny.model_type]
    assert model.config.model_type == tiny.model_type
    modules, parameters = (
        dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False)),
    )  # fmt: skip
    assert [part for part in PART_NAMES if not family.roots(part)] == ["embeddings"]
    for part in filter(family.roots, PART_NAMES):
        assert all(root in modules or root in parameters for root in family.roots(part)), part
        assert names_of(part, parameters, family), part
    assert [name for name in parameters if owner_of(name, family) is None] == []
    layers = model.get_submodule(family.decoder_layers)
    leaves = {name.rsplit(".", 1)[-1] for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
    assert leaves == {*family.attention, *family.mlp}
    embedded = {
        f"{family.decoder_layers}.",
        *(f"{n}." for n, m in modules.items() if m is model.get_input_embeddings()),
    }
    behind = [n for n in names_of("language_model", parameters, family) if not n.startswith(tuple(embedded))]
    assert behind == [n for n in parameters if n.startswith(tuple(f"{path}." for path in family.above_layers))]
    return None


def quantized(tiny: TinyFamily, folder: Path) -> str | None:
    """NF4 and int8 on every linear layer of the language model, and on nothing else."""
    family = FAMILIES[tiny.model_type]
    for precision, kind in (("nf4", bnb.nn.Linear4bit), ("int8", bnb.nn.Linear8bitLt)):
        asked = PartSettings(precision=precision, training="lora")  # type: ignore[arg-type]
        base = cases.module(folder, cases.parts(language_model=asked)).base
        found = {n.removesuffix(".base_layer") for n, m in base.named_modules() if isinstance(m, kind)}
        plain = AutoModelForImageTextToText.from_pretrained(folder)
        linear = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear)]
        assert found == set(names_of("language_model", linear, family))
    return None


def gradient_flow(tiny: TinyFamily, folder: Path) -> str | None:
    """LoRA and projector have gradients, and nothing else has."""
    module, family = cases.module(folder), FAMILIES[tiny.model_type]
    found = cases.gradients(module, cases.encode(cases.encoder(folder), [cases.conversation(1, 1), _two(tiny)]))
    moved = {name for name, grad in found.items() if grad is not None and bool(grad.abs().sum() > 0)}
    asked = {
        name
        for name in found
        if "lora_" in name or (owner_of(name, family) == "projector" and ".original_module." not in name)
    }
    alone = {root for root in family.projector if root in found}  # a bare parameter, which PEFT cannot save
    assert moved == asked - alone
    assert {name for name, grad in found.items() if grad is not None} == moved
    return None


def _two(tiny: TinyFamily) -> Conversation:
    return cases.conversation(1, 2 if tiny.turns else 1, 1)


def checkpointed(tiny: TinyFamily, folder: Path) -> str | None:
    """Recomputed activations give the same gradients; a frozen tower is run once and keeps no graph."""
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1), _two(tiny)])
    plain = cases.gradients(cases.module(folder), batch)
    module, graphs = cases.module(folder, checkpointing=True), list[bool]()
    module.train()
    tower = module.base.get_submodule(FAMILIES[tiny.model_type].vision_tower[0])
    linear = next(m for m in tower.modules() if isinstance(m, nn.Linear))
    linear.register_forward_hook(lambda _module, _inputs, output: graphs.append(output.requires_grad))
    again = cases.gradients(module, batch)
    assert plain.keys() == again.keys()
    for name, grad in plain.items():
        other = again[name]
        assert (grad is None) == (other is None)
        assert grad is None or other is None or torch.equal(grad, other)
    once = len(graphs)
    with torch.no_grad():
        module.loss(batch)
    assert len(graphs) == 2 * once, "the tower was recomputed in the backward pass"
    assert not any(graphs), "the frozen tower kept a graph"
    return None


def head(tiny: TinyFamily, folder: Path) -> str | None:
    """The loss looks at the logits that the model itself would give."""
    module = cases.module(folder).eval()
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    expected = cases.logits(module.base, batch)
    with torch.no_grad():
        loss = float(module.loss(batch))
    targets = batch.labels[:, 1:][batch.labels[:, 1:] != -100]
    assert loss == pytest.approx(float(nn.functional.cross_entropy(expected, targets, reduction="sum")), rel=1e-6)
    return None


def packed(tiny: TinyFamily, folder: Path) -> str | None:
    """Questions that share a row cost what they cost alone, and so do their gradients."""
    module, encoder = cases.module(folder), cases.encoder(folder)
    if (reason := unpackable(module.base, FAMILIES[tiny.model_type])) is not None:
        return f"packing: {reason}"
    policy = OverLengthPolicy(encoder, None, "error")
    for images in (1, 2):
        talks = cases.about_one_picture(images) + cases.about_one_picture(images, seed=3)[:2]
        shared, plain = (StepCollator(encoder, policy, 8, packing=packing)(talks) for packing in (True, False))
        assert isinstance(shared, StepBatch)
        assert isinstance(plain, StepBatch)
        assert len(plain.micro_batches[0].inputs["input_ids"]) == len(talks)
        (batch,) = shared.micro_batches
        assert len(batch.inputs["input_ids"]) == 2, "two pictures, so two rows"
        assert sorted(batch.lengths) == sorted(plain.micro_batches[0].lengths)
        same_gradients(cases.gradients(module, batch), cases.gradients(module, plain.micro_batches[0]))
    return None


def in_chunks(tiny: TinyFamily, folder: Path) -> str | None:
    """Attention in chunks and unmasked padding change no gradient; a prompt that sees ahead is not cut in chunks."""
    module, encoder, family = cases.module(folder), cases.encoder(folder), FAMILIES[tiny.model_type]
    policy = OverLengthPolicy(encoder, None, "error")
    talks = cases.about_one_picture(1)[:: 1 if tiny.turns else 2] + cases.about_one_picture(1, seed=3)[:1]
    for packing in {False, unpackable(module.base, family) is None}:
        step_batch = StepCollator(encoder, policy, 8, packing=packing)(talks)
        assert isinstance(step_batch, StepBatch)
        (batch,) = step_batch.micro_batches
        assert not batch.inputs["attention_mask"].all(), "rows of one length need no padding"
        with (
            patch.object(causal_attention, "CHUNK", 16),
            patch.object(causal_attention, "_chunks", wraps=causal_attention._chunks) as chunks,
        ):
            found = cases.gradients(module, batch)
        with (
            patch.object(causal_attention, "_chunked", lambda *_: False),
            patch.object(hidden_states, "seen_as_whole", lambda _backbone, inputs, _family: inputs),
        ):
            expected = cases.gradients(module, batch)
        assert chunks.called == family.causal_prompt
        same_gradients(found, expected)
    return None


def read_last(tiny: TinyFamily, folder: Path) -> str | None:
    """The last layer at the places that are read, element-wise work joined: loss and gradients of the whole layer as
    transformers has it, in every row."""
    encoder, family = cases.encoder(folder), FAMILIES[tiny.model_type]
    policy = OverLengthPolicy(encoder, None, "error")
    every = 1 if tiny.turns else 2
    talks = cases.about_one_picture(1)[::every] + cases.about_one_picture(1, seed=3)[:2:every]
    *_, last = cases.module(folder).base.get_submodule(family.decoder_layers).children()
    if not hasattr(last, "self_attn"):
        assert not isinstance(last, last_layer.LastLayer)
        return "the last layer of the tiny model attends to images"
    for recomputed in (False, True):
        module = cases.module(folder, checkpointing=recomputed)
        module.train()
        for packing in {False, unpackable(module.base, family) is None}:
            step_batch = StepCollator(encoder, policy, 8, packing=packing)(talks)
            assert isinstance(step_batch, StepBatch)
            (batch,) = step_batch.micro_batches
            batch.labels[-1] = IGNORE_INDEX  # a row that nobody reads
            narrowed = list[bool]()
            with (
                patch.object(hidden_states, "FEW", 1.0),
                patch.object(causal_attention, "CHUNK", 16),
                patch.object(last_layer, "_narrowed", _noting(narrowed, last_layer._narrowed)),
            ):
                found, loss = cases.gradients(module, batch), module.loss(batch)
            with patch.object(hidden_states, "FEW", 0.0), patch.object(element_wise, "_here", lambda *_: False):
                expected, whole = cases.gradients(module, batch), module.loss(batch)
            assert narrowed, "the whole layer was computed"
            torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
            same_gradients(found, expected)
    return None


def _noting(calls: list[bool], function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*given: object) -> Any:
        calls.append(True)
        return function(*given)

    return noted


def same_gradients(found: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    for name, grad in expected.items():
        other = found[name]
        assert (grad is None) == (other is None)
        if grad is not None and other is not None:
            # float32 sums over hundreds of terms, taken in another order.
            torch.testing.assert_close(other, grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()), msg=name)


def cached(tiny: TinyFamily, folder: Path) -> str | None:
    """Vision features from the disk give the loss and gradients that the live tower gives, packed and plain."""
    module, encoder, family = cases.module(folder), cases.encoder(folder), FAMILIES[tiny.model_type]
    policy = OverLengthPolicy(encoder, None, "error")
    every = 1 if tiny.turns else 2
    for images in (1, 2):
        talks = cases.about_one_picture(images)[::every] + cases.about_one_picture(images, seed=3)[:1]
        with TemporaryDirectory() as root:
            store = stored.filled(Path(root), module.base, family, encoder, talks)
            for packing in {False, unpackable(module.base, family) is None}:
                step_batches = [
                    StepCollator(encoder, policy, 8, packing=packing, store=s)(talks) for s in (store, None)
                ]
                found, expected = (w.micro_batches[0] for w in step_batches if isinstance(w, StepBatch))
                assert found.features is not None
                assert not any(name.startswith("pixel") for name in found.inputs)
                assert torch.equal(found.labels, expected.labels)
                # Of Llama-3.2-Vision's picture shapes only the tower knows what to do with.
                for field in (name for name in found.inputs if not name.startswith("aspect_ratio")):
                    assert torch.equal(found.inputs[field], expected.inputs[field]), field
                with torch.no_grad():
                    # Bit-equal in most families; where the tower sees images in one sequence its sums differ.
                    torch.testing.assert_close(module.loss(found), module.loss(expected), rtol=1e-6, atol=0)
                same_gradients(cases.gradients(module, found), cases.gradients(module, expected))
    return None
