"""Tests of what a parts table asks to train, told from names alone."""

from __future__ import annotations

import pytest

from tests.support.tiny_families.vilt import vilt
from vlm_lit.models.classifier_parts import ClassifierParts
from vlm_lit.models.families import family_of
from vlm_lit.models.parts import PartSettings
from vlm_lit.preflight.asked_training import is_trained
from vlm_lit.preflight.held_model import HeldModel

FROZEN = PartSettings(precision="fp32")
FULL = PartSettings(precision="fp32", training="full")
LORA = PartSettings(precision="fp32", training="lora")
LAST = PartSettings(precision="fp32", training="full", last_layers=1)


@pytest.fixture(scope="module")
def held() -> HeldModel:
    model, _ = vilt()
    return HeldModel(base=model, family=family_of("vilt"), path="")


@pytest.mark.parametrize(
    ("name", "words", "asked"),
    [
        ("vilt.encoder.layer.0.output.dense.weight", FULL, True),
        ("vilt.encoder.layer.0.output.dense.weight", FROZEN, False),
        ("vilt.encoder.layer.2.output.dense.weight", LAST, False),
        ("vilt.encoder.layer.3.modules_to_save.default.output.dense.weight", LAST, True),
        ("vilt.encoder.layer.3.original_module.output.dense.weight", LAST, False),
        ("vilt.pooler.dense.weight", LAST, True),
        ("vilt.encoder.layer.0.output.dense.lora_A.default.weight", LORA, True),
        ("vilt.encoder.layer.0.output.dense.base_layer.weight", LORA, False),
        ("classifier.3.weight", FROZEN, True),
        ("something.else", FULL, False),
    ],
)
def test_what_is_asked_for(held: HeldModel, name: str, words: PartSettings, asked: bool) -> None:
    assert is_trained(name, held, ClassifierParts(language_model=words)) == asked
