"""Tests of adapters that researchers compare: where each starts, what is saved of it, and what is refused.

A tiny LLaVA in float32 where sums must agree; its language model in 4 bits where the kind is about that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.models.test_adapter_state import disturb, inputs, logits
from tests.support.loaded import FP32, QUANTIZATION, adapted, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, load_adapter, save_adapter, trainable_state
from vlm_lit.models.frozen_start import lora_layers, start_state
from vlm_lit.models.loading import load_base, original_weights
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.merge.merging import load_tuned, merge
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.starts import check_start, start_at_loss, start_at_principal

KINDS: dict[str, dict[str, Any]] = {
    "rank_stabilised": {"scaling": "rank_stabilised"},
    "dora": {"dora": True},
    "ranks": {"ranks": {"q_proj": 4, r"layers\.1\..*": 3}, "alphas": {"v_proj": 8.0}},
    "pissa": {"start": "pissa"},
    "pissa, rank_stabilised, ranks": {
        "start": "pissa", "scaling": "rank_stabilised", "ranks": {"q_proj": 4}, "alphas": {"k_proj": 7.5},
    },
    "loftq": {"start": "loftq"},
}  # fmt: skip
PLAIN_FP32 = settings(language_model=PartSettings(precision="fp32", training="lora"))
# Sums of a few hundred float32 numbers in another order, at logits of a few units.
ROUNDING = 1e-5


def stored_in(precision: str) -> PartsSettings:
    return settings(language_model=PartSettings(precision=precision, training="lora"))  # type: ignore[arg-type]


def started(folder: Path, parts: PartsSettings, **lora: Any) -> PeftModel:
    """An adapted model at its start, as a run has it."""
    model, _ = adapted(folder, parts, **lora)
    if lora.get("start") == "pissa":
        start_at_principal(model)
    if lora.get("start") == "loftq":
        start_at_loss(model, original_weights(str(folder), None, parts))
    return model


def base_logits(folder: Path, parts: PartsSettings) -> Tensor:
    base, _ = load_base(str(folder), parts=parts, quantization=QUANTIZATION)
    return logits(base)


@pytest.mark.parametrize("precision", ["nf4", "fp4", "fp32"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "loftq"])
def test_the_start_is_the_base(kind: str, precision: str, tiny_llava: Path) -> None:
    parts = stored_in(precision)
    found = logits(started(tiny_llava, parts, **KINDS[kind]))
    torch.testing.assert_close(found, base_logits(tiny_llava, parts), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("precision", ["nf4", "fp4"])
@pytest.mark.parametrize("alpha", [16.0, 48.0])
def test_loftq_starts_nearer_to_the_unquantized_base_at_any_scale(
    precision: str, alpha: float, tiny_llava: Path
) -> None:
    parts = stored_in(precision)
    model = started(tiny_llava, parts, start="loftq", rank=16, alpha=alpha, targets=["attention", "mlp"])
    original = original_weights(str(tiny_llava), None, parts)
    for name, layer in lora_layers(model):
        weight = original(name.removeprefix("base_model.model."))
        stored = layer.get_base_layer()
        lost = weight - bnb.functional.dequantize_4bit(stored.weight.data, stored.weight.quant_state)
        singular = torch.linalg.svdvals(lost)
        left = lost - layer.get_delta_weight("default")
        # The best that rank 16 can do (Eckart and Young).
        torch.testing.assert_close(left.norm(), singular[16:].norm(), rtol=1e-4, atol=1e-5)
    whole = base_logits(tiny_llava, PLAIN_FP32)
    assert (logits(model) - whole).norm() < 0.85 * (base_logits(tiny_llava, parts) - whole).norm()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_it_is_the_trained_model_again(kind: str, tiny_llava: Path, tmp_path: Path) -> None:
    parts = stored_in("nf4")
    model = started(tiny_llava, parts, **KINDS[kind])
    before = logits(model)
    disturb(model)
    expected = logits(model)
    save_adapter(model, tmp_path / "adapter", {})
    fresh, _ = adapted(tiny_llava, parts, **KINDS[kind])  # no start is computed anew
    load_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(logits(fresh), expected)
    assert (before - expected).abs().max() > 0.5
    base, _ = load_base(str(tiny_llava), parts=parts, quantization=QUANTIZATION)
    plain = logits(PeftModel.from_pretrained(base, str(tmp_path / "adapter")))
    torch.testing.assert_close(plain, expected, rtol=ROUNDING, atol=ROUNDING)


def fingerprint(folder: Path, parts: PartsSettings, lora: dict[str, Any]) -> dict[str, object]:
    return {
        "base": {"model_id": str(folder)},
        "lora": LoraSettings(**lora).stated(),
        "parts": {name: vars(parts.of(name)) for name in ("vision_tower", "projector", "language_model", "head")},
        "quantization": vars(QUANTIZATION),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged(kind: str, tiny_llava: Path, tmp_path: Path) -> None:
    parts = stored_in("nf4")
    model = started(tiny_llava, parts, **KINDS[kind])
    disturb(model)
    save_adapter(model, tmp_path / "adapter", fingerprint(tiny_llava, parts, KINDS[kind]))
    tuned = load_tuned(tiny_llava, tmp_path / "adapter", torch.float32)
    expected = logits(tuned)
    torch.testing.assert_close(logits(merge(tuned, torch.float32)), expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_loftq_update_is_merged_into_what_it_makes_up_for(tiny_llava: Path, tmp_path: Path) -> None:
    # All of the language model has an update, so that the merged model is the trained one and not merely near it.
    parts, lora = stored_in("nf4"), dict[str, Any](start="loftq", targets=["attention", "mlp"])
    model = started(tiny_llava, parts, **lora)
    disturb(model)
    save_adapter(model, tmp_path / "adapter", fingerprint(tiny_llava, parts, lora))
    merged = merge(load_tuned(tiny_llava, tmp_path / "adapter", torch.float32), torch.float32)
    torch.testing.assert_close(logits(merged), logits(model), rtol=ROUNDING, atol=ROUNDING)


def test_pissa_trains_as_pefts_own_does(tiny_llava: Path) -> None:
    ours = started(tiny_llava, PLAIN_FP32, start="pissa", rank=4)
    base, _ = load_base(str(tiny_llava), parts=PLAIN_FP32, quantization=QUANTIZATION)
    named = [name.removeprefix("base_model.model.") for name, _ in lora_layers(ours)]
    config = LoraConfig(
        r=4, lora_alpha=32, init_lora_weights="pissa", target_modules=named,
        modules_to_save=["model.multi_modal_projector"],
    )  # fmt: skip
    theirs = get_peft_model(base, config)
    for _ in range(3):
        gradients = [_sgd_step(model) for model in (ours, theirs)]
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)


def _sgd_step(model: PeftModel) -> dict[str, Tensor]:
    """The gradients of a loss, after a step along them."""
    model.zero_grad()
    given = inputs()
    out = model.eval()(**given).logits
    nn.functional.cross_entropy(out[0, :-1], given["input_ids"][0, 1:] % out.shape[-1]).backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in found:
                parameter.sub_(0.02 * found[name])
    return found


def test_what_pissa_begins_with_never_trains(tiny_llava: Path) -> None:
    model = started(tiny_llava, stored_in("nf4"), start="pissa")
    before = {name: matrix.clone() for name, matrix in start_state(model).items()}
    assert len(before) == 16  # A and B of 4 layers in each of 2 decoder layers
    plain, _ = adapted(tiny_llava, stored_in("nf4"))
    with model.disable_adapter():  # PEFT switches everything that it knows to train on again
        pass
    assert trainable_state(model).keys() == trainable_state(plain).keys()
    _sgd_step(model)
    assert all(torch.equal(matrix, before[name]) for name, matrix in start_state(model).items())


def test_rank_stabilised_divides_by_the_root(tiny_llava: Path) -> None:
    model, _ = adapted(tiny_llava, scaling="rank_stabilised", rank=16, alpha=8.0)
    assert {layer.scaling["default"] for _, layer in lora_layers(model)} == {2.0}


def test_dora_trains_a_magnitude_an_output(tiny_llava: Path, tmp_path: Path) -> None:
    plain, _ = adapted(tiny_llava)
    model, _ = adapted(tiny_llava, dora=True)
    more = trainable_state(model).keys() - trainable_state(plain).keys()
    assert len(more) == 8
    assert {trainable_state(model)[name].shape for name in more} == {(64,)}
    disturb(model)
    save_adapter(model, tmp_path / "adapter", {})
    assert sum("lora_magnitude_vector" in name for name in load_file(tmp_path / "adapter" / WEIGHTS)) == 8


def test_ranks_by_layer_the_first_that_fits_decides(tiny_llava: Path, tmp_path: Path) -> None:
    lora: dict[str, Any] = {
        "rank": 6,
        "ranks": {r"layers\.1\.self_attn\.q_proj": 2, "q_proj": 4},
        "alphas": {"v_proj": 12.0},
    }
    model, _ = adapted(tiny_llava, **lora)
    found = {name.split("layers.")[1]: layer for name, layer in lora_layers(model)}
    assert found["0.self_attn.q_proj"].r["default"] == 4
    assert found["1.self_attn.q_proj"].r["default"] == 2
    assert found["0.self_attn.k_proj"].r["default"] == 6
    assert found["0.self_attn.v_proj"].scaling["default"] == 2.0
    save_adapter(model, tmp_path / "adapter", {})
    kept = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    # PEFT sorts the patterns that it saves: by whole names their order does not matter.
    layers = "model.language_model.layers"
    assert kept["rank_pattern"] == {f"{layers}.0.self_attn.q_proj": 4, f"{layers}.1.self_attn.q_proj": 2}


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"ranks": {"qkv": 4}}, r"lora\.ranks has the key 'qkv', and for no layer.*q_proj"),
        ({"ranks": {"q_proj": 4, r".*q_proj": 2}}, r"'\.\*q_proj', and for no layer"),
        ({"alphas": {r"((\w+\.?)+)+!": 4.0}}, r"lora\.alphas.*does not end"),
    ],
)
def test_a_pattern_that_decides_nothing_is_refused(lora: dict[str, Any], said: str, tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        adapted(tiny_llava, **lora)


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"ranks": {"(": 4}}, "is no regular expression"),
        ({"ranks": {"": 4}}, "empty key"),
        ({"ranks": {"q_proj": 0}}, r"lora\.ranks\['q_proj'\] is 0"),
        ({"alphas": {"q_proj": float("nan")}}, r"lora\.alphas\['q_proj'\] is nan"),
        ({"b_lr_ratio": 0.0}, r"lora\.b_lr_ratio is 0\.0"),
        ({"b_lr_ratio": float("inf")}, r"lora\.b_lr_ratio is inf"),
        ({"dora": True, "start": "pissa"}, r"lora\.dora goes with a start at which B is zero"),
        ({"dora": True, "start": "loftq"}, r"lora\.dora goes with a start at which B is zero"),
    ],
)
def test_settings_that_mean_nothing_are_refused(lora: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LoraSettings(**lora)


@pytest.mark.parametrize(
    ("lora", "precision", "training", "said"),
    [
        ({"start": "loftq"}, "fp32", "lora", "begins with what 4-bit weights have lost"),
        ({"start": "loftq"}, "int8", "lora", "begins with what 4-bit weights have lost"),
        ({"dora": True}, "int8", "lora", r"in int8, once it computes with them"),
        ({"b_lr_ratio": 16.0}, "fp32", "frozen", r"lora\.b_lr_ratio is 16\.0, and no part is trained by LoRA"),
    ],
)
def test_what_parts_do_not_allow_is_refused(lora: dict[str, Any], precision: str, training: str, said: str) -> None:
    parts = settings(language_model=PartSettings(precision=precision, training=training))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        check_start(LoraSettings(**lora), parts)


def test_a_rank_that_a_layer_does_not_have_is_refused_by_its_name(tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=r"the 65 largest singular values of \S*q_proj, which has 64"):
        started(tiny_llava, stored_in("nf4"), start="pissa", rank=65)


def test_what_is_not_used_is_not_stated() -> None:
    assert LoraSettings().stated().keys() == {"rank", "alpha", "dropout", "targets", "leaves", "last_share"}
    assert LoraSettings(dora=True).stated()["dora"] is True


def test_fp4_is_the_nearest_of_its_values(tiny_llava: Path) -> None:
    parts = stored_in("fp4")
    model, _ = load_base(str(tiny_llava), parts=parts, quantization=QUANTIZATION)
    weight = original_weights(str(tiny_llava), None, parts)("model.language_model.layers.0.self_attn.q_proj")
    layer = model.get_submodule("model.language_model.layers.0.self_attn.q_proj")
    assert isinstance(layer, bnb.nn.Linear4bit)
    state = layer.weight.quant_state
    stored = bnb.functional.dequantize_4bit(layer.weight.data, state)
    blocks = weight.reshape(-1, 64)
    largest = bnb.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    # bitsandbytes' 4-bit floats: sign, two bits of exponent, one of mantissa; over the largest, 12.
    values = torch.tensor([0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0]) / 12.0
    values = torch.cat([values, -values])
    nearest = (blocks / blocks.abs().amax(1, keepdim=True))[..., None].sub(values).abs().argmin(-1)
    expected = (values[nearest] * largest[:, None]).reshape(weight.shape)
    torch.testing.assert_close(stored, expected, rtol=1e-3, atol=1e-6)
    x = torch.randn(5, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, stored.sum(0).expand(5, -1), rtol=1e-5, atol=1e-5)


def test_two_quantized_precisions_are_refused_by_their_names() -> None:
    from vlm_lit.models.families import FAMILIES
    from vlm_lit.models.quantization import quantization_config

    parts = settings(vision_tower=PartSettings(precision="fp4"), head=FP32)
    with pytest.raises(ConfigError, match="nf4 and fp4 together"):
        quantization_config(parts.precisions, FAMILIES["llava"], QUANTIZATION)
