"""Tests of an architecture that lacks a part: a real ViLT, which has neither a vision tower nor a projector."""

from __future__ import annotations

import pytest
from transformers import ViltForQuestionAnswering

from tests.support.tiny_families.vilt import vilt
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import FAMILIES, owner_of
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings, parts_table, refuse_absent_parts
from vlm_lit.models.quantization import QuantizationSettings, quantization_config
from vlm_lit.models.vision_features import check_cacheable

VILT = FAMILIES["vilt"]
PARTS = PartsSettings(
    projector=PartSettings(),
    language_model=PartSettings(precision="fp32", training="lora"),
    head=PartSettings(precision="fp32", training="full"),
)


def test_its_auto_class_and_its_backbone_are_the_familys() -> None:
    model = VILT.auto().from_config(vilt()[0].config)
    assert isinstance(model, ViltForQuestionAnswering)
    assert VILT.backbone_of(model) is model.vilt
    others = {family.auto().__name__ for family in FAMILIES.values() if family is not VILT}
    assert others == {"AutoModelForImageTextToText"}


def test_each_parameter_has_an_owner_and_the_table_shows_the_parts_there_are() -> None:
    model, _ = vilt()
    assert {owner_of(name, VILT) for name, _ in model.named_parameters()} == {"embeddings", "language_model", "head"}
    adapted = attach_adapters(model, VILT, PARTS, LoraSettings(rank=2), seed=0)
    rows = parts_table(adapted.get_base_model(), VILT, PARTS, 1e-4)
    assert [row.part for row in rows] == ["embeddings", "language_model", "head"]
    assert [row.trainable > 0 for row in rows] == [False, True, True]


def test_nothing_is_skipped_for_a_part_that_is_not_there() -> None:
    config = quantization_config(PartsSettings().precisions, VILT, QuantizationSettings())
    assert config is not None
    assert config.llm_int8_skip_modules == ["vilt.embeddings", "classifier"]


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


@pytest.mark.parametrize("settings", [PartSettings(training="full"), PartSettings(precision="nf4")])
def test_models_that_generate_have_no_embeddings_part(settings: PartSettings) -> None:
    with pytest.raises(ConfigError, match=r"model type 'llava' has no embeddings. Set embeddings to \{precision: bf16"):
        refuse_absent_parts(FAMILIES["llava"], "llava", PartsSettings(embeddings=settings))


def test_nor_a_learning_rate_for_it() -> None:
    parts = PartsSettings(embeddings=PartSettings(learning_rate=0.5))
    with pytest.raises(ConfigError, match=r"embeddings.learning_rate is 0.5, but model type 'llava' has no embeddings"):
        refuse_absent_parts(FAMILIES["llava"], "llava", parts)


def test_features_of_a_tower_that_is_not_there_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="model type 'vilt' has none"):
        check_cacheable(VILT, "vilt", PARTS)
