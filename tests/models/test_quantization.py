"""Tests of quantization: exactly the asked layers are quantized, and they stay as they are."""

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from tests.support import tiny_models
from tests.support.loaded import FP32, QUANTIZATION, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.loading import load_base
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.quantization import check_quantized, quantization_config, quantized_modules

LLAVA = FAMILIES["llava"]


def test_nf4_lands_on_the_language_model_and_nowhere_else(tiny_llava: Path) -> None:
    model, family = load_base(str(tiny_llava), parts=settings(), quantization=QUANTIZATION)
    found = quantized_modules(model, family)
    assert len(found["language_model"]) == 14  # 7 linear layers in each of 2 decoder layers
    assert found["vision_tower"] == found["projector"] == found["head"] == []


def test_each_part_can_be_quantized_alone(tiny_llava: Path) -> None:
    parts = settings(vision_tower=PartSettings(precision="nf4"), language_model=FP32)
    model, family = load_base(str(tiny_llava), parts=parts, quantization=QUANTIZATION)
    found = quantized_modules(model, family)
    assert len(found["vision_tower"]) == 18  # q, k, v, out, fc1, fc2 in each of 3 layers
    assert found["language_model"] == found["projector"] == found["head"] == []


def test_int8_lands_where_asked(tiny_llava: Path) -> None:
    parts = settings(language_model=PartSettings(precision="int8", training="lora"))
    model, _ = load_base(str(tiny_llava), parts=parts, quantization=QUANTIZATION)
    kinds = [name for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear8bitLt)]
    assert len(kinds) == 14
    assert all(name.startswith(LLAVA.language_model) for name in kinds)


def test_bare_skip_names_are_caught(tiny_llava: Path) -> None:
    # What every tutorial writes: under transformers 5 these names match nothing, and the tower is 4-bit as well.
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=["vision_tower", "multi_modal_projector", "lm_head"],
    )
    model = AutoModelForImageTextToText.from_pretrained(tiny_llava, quantization_config=config, dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"model\.vision_tower\S* is nf4, asked for fp32"):
        check_quantized(model, LLAVA, settings().precisions)


def test_a_layer_left_unquantized_is_caught() -> None:
    with pytest.raises(ConfigError, match=r"is fp32, asked for nf4"):
        check_quantized(tiny_models.llava()[0], LLAVA, settings().precisions)


def test_nf4_and_int8_in_one_model_are_refused() -> None:
    parts = settings(vision_tower=PartSettings(precision="int8"))
    with pytest.raises(ConfigError, match="nf4 and int8 together"):
        quantization_config(parts.precisions, LLAVA, QUANTIZATION)


def test_a_quantized_part_cannot_be_trained_in_full() -> None:
    with pytest.raises(ConfigError, match=r"stored in nf4 cannot be trained in full"):
        PartSettings(precision="nf4", training="full")


def test_an_evaluation_pass_leaves_4bit_weights_as_they_are(tiny_llava: Path) -> None:
    # On CPUs with AVX512-BF16 bitsandbytes repacks them in place, and later gradients are wrong without a word.
    model, _ = load_base(str(tiny_llava), parts=settings(), quantization=QUANTIZATION)
    layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    before = [(m.weight.data.clone(), m.weight.quant_state.absmax.clone()) for m in layers]
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    assert not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in layers)
    for layer, (packed, absmax) in zip(layers, before, strict=True):
        assert torch.equal(layer.weight.data, packed)
        assert torch.equal(layer.weight.quant_state.absmax, absmax)
