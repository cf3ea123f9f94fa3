"""Tests of equality 8: the saved adapter on a fresh base is the trained model, and merged equals unmerged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from tests.support import tiny_models
from tests.support.loaded import FP32, QUANTIZATION, adapted, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, load_adapter, save_adapter, trainable_state
from vlm_lit.models.loading import load_base
from vlm_lit.models.parts import PartSettings


def inputs() -> dict[str, Tensor]:
    processor = tiny_models.llava_processor()
    text = "USER: <image>\nwhat? ASSISTANT: red</s>"
    return dict(processor(text=[text], images=[[tiny_models.picture(1)]], return_tensors="pt"))


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    found: Tensor = model.eval()(**inputs()).logits
    return found


def disturb(model: torch.nn.Module) -> None:
    """Stand in for training: move every trained weight, LoRA's B included."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_state(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.fixture(scope="module")
def trained(tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A saved adapter, the trained model's logits and the base's."""
    model, _ = adapted(tiny_llava)
    before = logits(model)
    disturb(model)
    folder = tmp_path_factory.mktemp("run") / "adapter"
    save_adapter(model, folder, {"base": "tiny"})
    return folder, logits(model), before


def test_reloaded_equals_trained(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, expected, before = trained
    fresh, _ = adapted(tiny_llava)
    load_adapter(fresh, folder)
    assert torch.equal(logits(fresh), expected)
    assert not torch.allclose(before, expected, atol=1e-2)  # the adapter does change the model


def test_plain_peft_loads_it_without_our_code(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, expected, _ = trained
    base, _ = load_base(str(tiny_llava), parts=settings(), quantization=QUANTIZATION)
    assert torch.equal(logits(PeftModel.from_pretrained(base, str(folder))), expected)


def test_merged_equals_unmerged(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, _, _ = trained
    base = AutoModelForImageTextToText.from_pretrained(tiny_llava, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(folder))
    unmerged = logits(tuned)
    merged = logits(tuned.merge_and_unload())
    # W + BA in one matrix rounds once where two products round twice: a few float32 steps at logits of this size.
    torch.testing.assert_close(merged, unmerged, rtol=1e-5, atol=1e-5)


def test_a_float32_projector_stays_exact_on_a_bfloat16_base(tiny_llava: Path, tmp_path: Path) -> None:
    bf16 = PartSettings(precision="bf16")
    parts = settings(vision_tower=bf16, projector=PartSettings(precision="bf16", training="full"), head=bf16)
    model, _ = adapted(tiny_llava, parts)
    disturb(model)
    save_adapter(model, tmp_path / "adapter", {})
    fresh, _ = adapted(tiny_llava, parts)
    load_adapter(fresh, tmp_path / "adapter")
    expected, found = trainable_state(model), trainable_state(fresh)
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_an_adapter_that_does_not_fit_is_refused(
    change: str, tiny_llava: Path, trained: tuple[Path, Tensor, Tensor], tmp_path: Path
) -> None:
    state = load_file(trained[0] / WEIGHTS)
    first = next(name for name in state if "lora_A" in name)
    if change == "missing":
        del state[first]
    elif change == "extra":
        state["unknown.weight"] = torch.zeros(1)
    else:
        state[first] = torch.zeros(2, 2)
    save_file(state, tmp_path / WEIGHTS)
    fresh, _ = adapted(tiny_llava)
    with pytest.raises(ConfigError, match="parameters missing" if change != "shape" else "has shape"):
        load_adapter(fresh, tmp_path)


def test_a_folder_without_weights_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    fresh, _ = adapted(tiny_llava)
    with pytest.raises(ConfigError, match=r"holds no adapter_model\.safetensors"):
        load_adapter(fresh, tmp_path)


# The scale of an update, which stands in the settings alone -------------------------------------------------


USUAL = {"rank": 4, "alpha": 64.0}
ATTENTION = r".*language_model\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"
LORA_ALONE = settings(language_model=PartSettings(precision="fp32", training="lora"), projector=FP32)


def kept(base: Path, folder: Path, **lora: Any) -> Path:
    model, _ = adapted(base, LORA_ALONE, **{**USUAL, **lora})
    disturb(model)
    save_adapter(model, folder, {})
    return folder


def of_peft(base: Path, folder: Path, **config: Any) -> Tensor:
    """Save an adapter that plain PEFT made; the logits of its model."""
    torch.manual_seed(0)
    usual = {"r": 4, "lora_alpha": 64, "target_modules": ATTENTION}
    loaded = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(loaded, LoraConfig(**{**usual, **config}))
    disturb(model)
    model.save_pretrained(folder)
    return logits(model)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "alpha": (
        {"alpha": 4.0},
        r"has rank 4 and scale 1 \(and \d+ more layers\).*Set lora\.alpha to 64\.0 \(is 4\.0\)\.$",
    ),
    "rank": (
        {"rank": 8},
        r"with rank 4 and scale 16, and here it has rank 8 and scale 8.*Set lora\.rank to 4 \(is 8\)",
    ),
    "scaling": (
        {"scaling": "rank_stabilised"},
        r"Set lora\.scaling to alpha_over_rank \(is rank_stabilised\)\.$",
    ),
    "alphas": ({"alphas": {"q_proj": 1.0}}, r"q_proj was trained with .* scale 16.*Set lora\.alphas to null \(is \{"),
    "dora": ({"dora": True}, r"use_dora is false, and this run's lora\.dora is true\. Set lora\.dora to false"),
    "start": ({"start": "pissa"}, r"Set lora\.start to random \(is pissa\)\.$"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_adapter_of_another_scale_is_refused(other: str, tiny_llava: Path, tmp_path: Path) -> None:
    folder = kept(tiny_llava, tmp_path / "adapter")
    lora, words = OTHERS[other]
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **{**USUAL, **lora})
    with pytest.raises(ConfigError, match=words) as refused:
        load_adapter(fresh, folder)
    assert str(folder / "adapter_config.json") in str(refused.value)


ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another dropout": ({}, {"dropout": 0.3}),
    "the same scale in other words": ({}, {"alpha": 32.0, "scaling": "rank_stabilised"}),
    "patterns in other words": (
        {"ranks": {"q_proj": 8}, "alphas": {"k_proj": 4.0, "layers[.]1[.].*": 9.0}},
        {"ranks": {".*q_proj": 8}, "alphas": {"k_proj": 4.0, "layers.1.self_attn.[qvo]_proj": 9.0}},
    ),
    "a frozen start that trains on": (
        {"start": "pissa", "scaling": "rank_stabilised", "ranks": {"q_proj": 2}, "alphas": {"v_proj": 3.5}},
        {"rank": 8, "alpha": 64 * 2**0.5, "scaling": "rank_stabilised", "ranks": {"q_proj": 4},
         "alphas": {"v_proj": 3.5 * 2**0.5}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALIKE)
def test_settings_that_give_the_same_update_are_the_same(case: str, tiny_llava: Path, tmp_path: Path) -> None:
    was, now = ALIKE[case]
    folder = kept(tiny_llava, tmp_path / "adapter", **was)
    for lora in (was, now):
        fresh, _ = adapted(tiny_llava, LORA_ALONE, **{**USUAL, **lora})
        load_adapter(fresh, folder)
        base = AutoModelForImageTextToText.from_pretrained(tiny_llava, dtype=torch.float32)
        expected = logits(PeftModel.from_pretrained(base, str(folder)))
        torch.testing.assert_close(logits(fresh), expected, rtol=1e-5, atol=1e-5)


BY_PEFT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "rank-stabilised": ({"use_rslora": True}, {"scaling": "rank_stabilised"}),
    "patterns": (
        {"alpha_pattern": {"q_proj": 1}, "rank_pattern": {"k_proj": 2}},
        {"alphas": {"q_proj": 1.0}, "ranks": {"k_proj": 2}},
    ),
    "dora": ({"use_dora": True}, {"dora": True}),
    "biases that no layer has": ({"bias": "lora_only"}, {}),
    "an orthogonal start": ({"init_lora_weights": "orthogonal"}, {}),
}


@pytest.mark.parametrize("kind", BY_PEFT)
def test_an_adapter_of_plain_peft_is_what_peft_makes_of_it(kind: str, tiny_llava: Path, tmp_path: Path) -> None:
    config, lora = BY_PEFT[kind]
    expected = of_peft(tiny_llava, tmp_path, **config)
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **{**USUAL, **lora})
    load_adapter(fresh, tmp_path)
    torch.testing.assert_close(logits(fresh), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_of_a_changed_base_is_refused(start: str, tiny_llava: Path, tmp_path: Path) -> None:
    of_peft(tiny_llava, tmp_path, init_lora_weights=start)
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **USUAL)
    with pytest.raises(ConfigError, match=f"init_lora_weights is {start}.*path_initial_model_for_weight_conversion"):
        load_adapter(fresh, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"alora_invocation_tokens": [1, 2], "task_type": "CAUSAL_LM"},
            r"alora_invocation_tokens is \[1, 2\], and .* have null",
        ),
        ({"alpha_pattern": {"model.layers.0.self_attn.q_proj": 1}}, r"alpha_pattern has .*is the name of no layer"),
        ({"lora_alpha": "x"}, r"lora_alpha is 'x'; it must be a finite number"),
        ({"rank_pattern": {"(": 3}}, r"the keys of rank_pattern cannot be matched"),
    ],
    ids=["aLoRA", "no layer", "alpha", "pattern"],
)
def test_settings_that_do_not_fit_are_refused(
    change: dict[str, Any], words: str, tiny_llava: Path, tmp_path: Path
) -> None:
    folder = kept(tiny_llava, tmp_path / "adapter")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **USUAL)
    with pytest.raises(ConfigError, match=words):
        load_adapter(fresh, folder)


def test_trained_biases_are_refused(tiny_llava: Path, tmp_path: Path) -> None:
    towers = r".*vision_tower.*self_attn\.(q_proj|k_proj|v_proj)|" + ATTENTION
    of_peft(tiny_llava, tmp_path, bias="lora_only", target_modules=towers)
    parts = settings(
        language_model=PartSettings(precision="fp32", training="lora"),
        vision_tower=PartSettings(precision="fp32", training="lora"),
        projector=FP32,
    )
    fresh, _ = adapted(tiny_llava, parts, **USUAL)
    with pytest.raises(ConfigError, match=r"bias is lora_only, and the adapter holds \d+ trained biases"):
        load_adapter(fresh, tmp_path)


def test_an_adapter_without_its_settings_is_taken_by_its_weights(tiny_llava: Path, tmp_path: Path) -> None:
    folder = kept(tiny_llava, tmp_path / "adapter")
    (folder / "adapter_config.json").unlink()
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **USUAL)
    load_adapter(fresh, folder)


OLD_NAMES = {
    "base_model.model.model.language_model.layers": "base_model.model.language_model.model.layers",
    "base_model.model.model.multi_modal_projector": "base_model.model.multi_modal_projector",
    "base_model.model.lm_head": "base_model.model.language_model.lm_head",
}
"""What transformers called LLaVA's modules before 4.52."""


def named_as_before(folder: Path) -> dict[str, Tensor]:
    state = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        now, before = next(pair for pair in OLD_NAMES.items() if name.startswith(pair[0]))
        state[name.replace(now, before)] = tensor
    return state


def test_an_adapter_with_the_names_of_an_older_transformers_is_read(tiny_llava: Path, tmp_path: Path) -> None:
    parts = settings(head=PartSettings(precision="fp32", training="full"))
    model, _ = adapted(tiny_llava, parts)
    disturb(model)
    save_adapter(model, tmp_path / "adapter", {})
    state = named_as_before(tmp_path / "adapter")
    assert {name for name in OLD_NAMES.values() if any(key.startswith(name) for key in state)} == {*OLD_NAMES.values()}
    save_file(state, tmp_path / "adapter" / WEIGHTS)
    fresh, _ = adapted(tiny_llava, parts)
    load_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(logits(fresh), logits(model))


def test_a_weight_under_its_old_and_its_new_name_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    folder = kept(tiny_llava, tmp_path / "adapter")
    before, now = named_as_before(folder), load_file(folder / WEIGHTS)
    first = next(iter(before))
    save_file({**now, first: before[first]}, folder / WEIGHTS)
    fresh, _ = adapted(tiny_llava, LORA_ALONE, **USUAL)
    with pytest.raises(ConfigError, match=r"0 parameters missing .* 1 left over"):
        load_adapter(fresh, folder)


def test_the_fingerprint_lists_the_keys(trained: tuple[Path, Tensor, Tensor]) -> None:
    fingerprint = json.loads((trained[0] / "fingerprint.json").read_text())
    assert fingerprint["base"] == "tiny"
    assert fingerprint["keys"] == sorted(load_file(trained[0] / WEIGHTS))
    assert any("multi_modal_projector" in key for key in fingerprint["keys"])


def test_saving_again_replaces_the_folder(tiny_llava: Path, tmp_path: Path) -> None:
    model, _ = adapted(tiny_llava, settings(projector=FP32))
    for name in ("first", "second"):
        save_adapter(model, tmp_path / "adapter", {"base": name})
    assert json.loads((tmp_path / "adapter" / "fingerprint.json").read_text())["base"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
