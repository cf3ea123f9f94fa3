"""Tests of stored bytes: a model of shapes alone holds what the loaded model holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.support.loaded import FP32, settings
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import Family
from vlm_lit.models.loading import load_base, load_config
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.shapes import fake_mode, hollow, shaped_base
from vlm_lit.models.stored_bytes import Holding, holdings

BF16 = PartSettings(precision="bf16")
FULL = PartSettings(training="full")
NF4_LORA = PartSettings(precision="nf4", training="lora")
KINDS: dict[str, tuple[PartsSettings, bool]] = {
    "nf4, double": (settings(), True),
    "nf4": (settings(), False),
    "nf4 beside bf16": (PartsSettings(vision_tower=BF16, projector=FULL, language_model=NF4_LORA, head=BF16), True),
    "nf4 tower": (settings(vision_tower=PartSettings(precision="nf4")), True),
    "int8": (settings(language_model=PartSettings(precision="int8", training="lora")), True),
    "bf16": (PartsSettings(language_model=PartSettings(training="lora")), True),
    "full": (PartsSettings(vision_tower=FP32, language_model=FULL, projector=FULL, head=FULL), True),
}


def held(model: nn.Module, family: Family, parts: PartsSettings) -> set[Holding]:
    adapted = attach_adapters(model, family, parts, LoraSettings(), seed=0)
    return set(holdings(adapted.get_base_model(), family))


def both(folder: Path, parts: PartsSettings, double: bool) -> tuple[set[Holding], set[Holding]]:
    """What the loaded model holds, and what its shapes do."""
    quantization = QuantizationSettings(double_quant=double, compute_dtype="fp32")
    loaded, family = load_base(str(folder), parts=parts, quantization=quantization)
    model, _ = shaped_base(load_config(str(folder)), parts=parts, quantization=quantization)
    adapted: Any = attach_adapters(model, family, parts, LoraSettings(), seed=0)
    hollow(adapted, fake_mode())
    return held(loaded, family, parts), set(holdings(adapted.get_base_model(), family))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_weigh_what_the_loaded_model_does_to_the_byte(kind: str, tiny_llava: Path) -> None:
    loaded, shaped = both(tiny_llava, *KINDS[kind])
    assert shaped == loaded
    quantized = "nf4" in kind or "int8" in kind
    assert {"quantized", "constants"} <= {h.purpose for h in shaped} or not quantized


@pytest.mark.parametrize("name", TINY)
def test_of_every_family(name: str, folders: dict[str, Path]) -> None:
    loaded, shaped = both(folders[name], settings(), True)
    assert shaped == loaded


def test_the_sum_is_that_of_the_parameters_and_quantization_states(tiny_llava: Path) -> None:
    model, family = load_base(str(tiny_llava), parts=settings(), quantization=QuantizationSettings())
    # 14 layers in nf4, by hand: q, k, v, o are 64 x 64, gate, up, down 64 x 128; 2 layers of each.
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 128)
    sums = {h.purpose: h.size for h in holdings(model, family) if h.purpose in ("quantized", "constants")}
    found = [h for h in holdings(model, family) if h.purpose == "constants"]
    assert sums["quantized"] == weights // 2
    # Double quantization: a byte for each block of 64; then for each layer one float32 for each 256 of those bytes
    # (here one), the offset, the 256 values a byte stands for and the 16 that four bits stand for.
    assert {h.stored: h.size for h in found} == {"uint8": weights // 64, "float32": 14 * 4 * (1 + 1 + 256 + 16)}


def test_what_loading_refuses_is_refused_of_shapes_too(folders: dict[str, Path]) -> None:
    parts = settings(head=PartSettings(precision="nf4"))
    with pytest.raises(ConfigError, match="shares its weights with the word embeddings"):
        shaped_base(load_config(str(folders["paligemma"])), parts=parts, quantization=QuantizationSettings())
