"""Tests of LoRA on a share of the layers: the last decoder layers alone, in every family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support.family_cases import TINY, TinyFamily
from tests.support.loaded import FP32, adapted, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import load_adapter, save_adapter, trainable_state
from vlm_lit.models.families import FAMILIES, Family
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, parts_table

EVERY = pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)
PLAIN = settings(language_model=PartSettings(precision="fp32", training="lora"))


def by_layer(model: PeftModel, family: Family) -> dict[int, int]:
    """How many weights LoRA has in each decoder layer that has any; the other trained parts are not counted."""
    found: dict[int, int] = {}
    for name, parameter in model.get_base_model().named_parameters():
        if "lora_" in name:
            assert parameter.requires_grad
            layer = re.match(rf"{re.escape(family.decoder_layers)}\.(\d+)\.", name)
            assert layer, f"{name} lies outside the decoder layers"
            found[int(layer[1])] = found.get(int(layer[1]), 0) + parameter.numel()
    return found


@EVERY
def test_the_last_layers_have_lora_and_no_others(tiny: TinyFamily, folders: dict[str, Path]) -> None:
    lora = {"targets": ["attention", "mlp"], "rank": 4}
    whole, family = adapted(folders[tiny.name], PLAIN, **lora)
    half, _ = adapted(folders[tiny.name], PLAIN, **lora, last_share=0.5)
    layers = by_layer(whole, family)
    assert list(layers) == list(range(len(layers)))
    assert len(layers) > 1
    last = {layer: size for layer, size in layers.items() if layer >= len(layers) - round(len(layers) / 2)}
    assert by_layer(half, family) == last
    rows = {row.part: row for row in parts_table(half.get_base_model(), family, PLAIN, 1e-4)}
    assert rows["language_model"].trainable == sum(last.values())
    assert rows["vision_tower"].trainable == rows["head"].trainable == 0


@EVERY
def test_an_adapter_of_the_last_layers_reloads(tiny: TinyFamily, folders: dict[str, Path], tmp_path: Path) -> None:
    folder, batch = folders[tiny.name], cases.encode(cases.encoder(folders[tiny.name]), [cases.conversation(1, 1)])
    trained, _ = adapted(folder, PLAIN, last_share=0.5)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_state(trained).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    expected = cases.logits(trained.get_base_model(), batch)
    save_adapter(trained, tmp_path / "adapter", {})
    fresh, _ = adapted(folder, PLAIN, last_share=0.5)
    load_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(cases.logits(fresh.get_base_model(), batch), expected)
    theirs = PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32), str(tmp_path / "adapter")
    )
    # To the rounding: norms and feed-forward blocks of ours are one function each.
    torch.testing.assert_close(cases.logits(theirs.get_base_model(), batch), expected, rtol=1e-5, atol=1e-5)
    whole, _ = adapted(folder, PLAIN)
    with pytest.raises(ConfigError, match=r"does not fit the model: \d+ parameters missing"):
        load_adapter(whole, tmp_path / "adapter")


@pytest.mark.parametrize(
    ("share", "layers"), [(0.25, [3]), (0.5, [2, 3]), (0.1, [3]), (0.75, [1, 2, 3]), (1, range(4))]
)
def test_a_share_is_of_the_layers_that_there_are(share: float, layers: list[int], folders: dict[str, Path]) -> None:
    model, family = adapted(folders["mllama"], PLAIN, last_share=share)
    assert list(by_layer(model, family)) == list(layers)


def test_other_parts_are_adapted_whole(tiny_llava: Path) -> None:
    asked = settings(vision_tower=PartSettings(precision="fp32", training="lora"), language_model=FP32)
    whole, _ = adapted(tiny_llava, asked)
    half, _ = adapted(tiny_llava, asked, last_share=0.5)
    assert trainable_state(half).keys() == trainable_state(whole).keys()
    assert any("vision_tower" in name for name in trainable_state(half))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"lora.last_share is .*; it must lie in \(0, 1\]"):
        LoraSettings(last_share=share)


def test_every_family_has_a_tiny_one_here() -> None:
    assert {tiny.model_type for tiny in TINY.values()} == {k for k, f in FAMILIES.items() if f.task == "generate"}
