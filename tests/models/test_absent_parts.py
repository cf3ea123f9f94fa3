"""Tests of an architecture that lacks a part: a real ViLT, which has neither a vision tower nor a projector."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, ViltConfig, ViltForQuestionAnswering

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import LoraSettings, attach_adapters
from vlm_lit.models.families import FAMILIES, Family, owner_of
from vlm_lit.models.parts import PartSettings, PartsSettings, parts_table, refuse_absent_parts
from vlm_lit.models.quantization import QuantizationSettings, quantization_config
from vlm_lit.models.vision_features import check_cacheable

VILT = Family(
    auto_class="AutoModelForVisualQuestionAnswering",
    backbone="vilt",
    language_model=("vilt",),
    decoder_layers="vilt.encoder.layer",
    head=("classifier",),
    attention=("query", "key", "value"),
    mlp=("dense",),
)
PARTS = PartsSettings(
    projector=PartSettings(),
    language_model=PartSettings(precision="fp32", training="lora"),
    head=PartSettings(precision="fp32", training="full"),
)


def vilt() -> PreTrainedModel:
    torch.manual_seed(0)
    config = ViltConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=40,
        image_size=32, patch_size=8, num_labels=5,
    )  # fmt: skip
    return ViltForQuestionAnswering(config)


def test_its_auto_class_and_its_backbone_are_the_familys() -> None:
    model = VILT.auto().from_config(vilt().config)
    assert isinstance(model, ViltForQuestionAnswering)
    assert VILT.backbone_of(model) is model.vilt
    assert {family.auto().__name__ for family in FAMILIES.values()} == {"AutoModelForImageTextToText"}


def test_each_parameter_has_an_owner_and_the_table_shows_the_parts_there_are() -> None:
    model = vilt()
    assert {owner_of(name, VILT) for name, _ in model.named_parameters()} == {"language_model", "head"}
    adapted = attach_adapters(model, VILT, PARTS, LoraSettings(rank=2), seed=0)
    rows = parts_table(adapted.get_base_model(), VILT, PARTS, 1e-4)
    assert [row.part for row in rows] == ["language_model", "head"]
    assert all(row.trainable > 0 for row in rows)


def test_nothing_is_skipped_for_a_part_that_is_not_there() -> None:
    precisions = {"vision_tower": "bf16", "projector": "bf16", "language_model": "nf4", "head": "bf16"}
    config = quantization_config(precisions, VILT, QuantizationSettings())  # type: ignore[arg-type]
    assert config is not None
    assert config.llm_int8_skip_modules == ["classifier"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PartSettings(training="full"), "projector.training is full, but model type 'vilt' has no projector"),
        (PartSettings(training="lora"), "projector.training is lora"),
        (PartSettings(precision="nf4"), "projector.precision is nf4"),
    ],
)
def test_a_part_that_is_not_there_cannot_be_trained_or_quantized(settings: PartSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        refuse_absent_parts(VILT, "vilt", PartsSettings(projector=settings))
    refuse_absent_parts(VILT, "vilt", PARTS)
    refuse_absent_parts(FAMILIES["llava"], "llava", PartsSettings(projector=settings))


def test_features_of_a_tower_that_is_not_there_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="model type 'vilt' has none"):
        check_cacheable(VILT, "vilt", PARTS)
