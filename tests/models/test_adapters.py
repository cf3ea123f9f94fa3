"""Tests of adapters: LoRA and full training on the asked parts, and on no other."""

import re
from pathlib import Path

import pytest
import torch

from tests.support import tiny_models
from tests.support.loaded import FP32, adapted, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import target_pattern
from vlm_lit.models.families import FAMILIES, owner_of
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings

LLAVA = FAMILIES["llava"]


def _trainable(folder: Path, **parts: PartSettings) -> dict[str, set[str]]:
    model, family = adapted(folder, settings(**parts))
    owners: dict[str, set[str]] = {}
    for name, parameter in model.get_base_model().named_parameters():
        if parameter.requires_grad:
            kind = "lora" if "lora_" in name else "full"
            owners.setdefault(str(owner_of(name, family)), set()).add(kind)
    return owners


def test_lora_on_the_language_model_and_the_projector_in_full(tiny_llava: Path) -> None:
    assert _trainable(tiny_llava) == {"language_model": {"lora"}, "projector": {"full"}}


def test_the_tower_gets_lora_only_when_asked(tiny_llava: Path) -> None:
    asked = PartSettings(precision="fp32", training="lora")
    assert _trainable(tiny_llava, vision_tower=asked)["vision_tower"] == {"lora"}


def test_full_training_needs_no_lora_anywhere(tiny_llava: Path) -> None:
    found = _trainable(tiny_llava, language_model=PartSettings(precision="nf4"))
    assert found == {"projector": {"full"}}


def test_targets_are_whole_names() -> None:
    model, _ = tiny_models.llava()
    pattern = target_pattern(model, LLAVA, settings(), LoraSettings(targets=["attention", "mlp"]))
    assert pattern is not None
    hit = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    assert len(hit) == 14
    assert not any("vision_tower" in name for name in hit)


def test_leaves_narrow_the_targets(tiny_llava: Path) -> None:
    model, _ = adapted(tiny_llava, leaves=["q_proj", "v_proj"])
    hit = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert hit == {"q_proj", "v_proj"}


def test_an_unknown_leaf_is_refused_with_the_known_ones(tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=r"names 'qkv'.*q_proj"):
        adapted(tiny_llava, leaves=["qkv"])


def test_the_lora_matrices_follow_from_the_seed_alone(tiny_llava: Path) -> None:
    first, _ = adapted(tiny_llava)
    torch.manual_seed(99)
    second, _ = adapted(tiny_llava)
    drawn = [(n, p) for n, p in first.named_parameters() if "lora_A" in n]
    assert drawn
    assert all(torch.equal(p, dict(second.named_parameters())[n]) for n, p in drawn)


def test_fully_trained_weights_are_float32_masters(tiny_llava: Path) -> None:
    bf16 = PartSettings(precision="bf16")
    parts = settings(vision_tower=bf16, projector=PartSettings(precision="bf16", training="full"), head=bf16)
    model, _ = adapted(tiny_llava, parts)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert model.get_base_model().lm_head.weight.dtype == torch.bfloat16


def test_nothing_but_fp32_stays_in_fp32(tiny_llava: Path) -> None:
    model, _ = adapted(tiny_llava, settings(vision_tower=FP32, head=PartSettings(precision="bf16")))
    assert model.get_base_model().model.vision_tower.post_layernorm.weight.dtype == torch.float32
