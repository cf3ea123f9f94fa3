"""Tests of a classifier's budget: it needs what a real step was seen to need, and counts what transformers counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViltConfig, ViltForQuestionAnswering

from tests.support.budget_cases import trainer
from tests.support.class_runs import checkpoint
from tests.support.classifiers import FP32, FULL, QUANTIZATION, tiny
from tests.support.tiny_families.vilt import ANSWERS
from vlm_lit.data.classifier_datamodule import ClassifierDataModule
from vlm_lit.models.classifier_parts import ClassifierParts
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings
from vlm_lit.preflight.budget.class_budget import ClassBudget, class_budget
from vlm_lit.preflight.budget.class_step import OneSize
from vlm_lit.preflight.budget.hollow_module import resident
from vlm_lit.preflight.budget.ledger import Ledger
from vlm_lit.schema import ClassBatch
from vlm_lit.training.classifier import ClassifierModule

TOLERANCE = 0.005
HEIGHT, WIDTH, WORDS, LAYERS = 64, 96, 40, 4
RECIPES: Mapping[str, ClassifierParts] = {
    "all": ClassifierParts(),
    "last 2": ClassifierParts(
        embeddings=FP32, language_model=PartSettings(precision="fp32", training="full", last_layers=2)
    ),
    "LoRA": ClassifierParts(embeddings=FP32, language_model=PartSettings(precision="fp32", training="lora")),
    "QLoRA": ClassifierParts(embeddings=FP32, language_model=PartSettings(precision="nf4", training="lora")),
    "head": ClassifierParts(embeddings=FP32, language_model=FP32),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("vilt"))


def module(folder: Path, parts: ClassifierParts, **settings: Any) -> ClassifierModule:
    """A module whose model is not loaded, its trainer attached."""
    made = ClassifierModule(
        str(folder),
        parts=parts,
        quantization=QUANTIZATION,
        lora=LoraSettings(dropout=0.0),
        answers=list(ANSWERS),
        **settings,
    )
    made.trainer = trainer()
    return made


def estimated(made: ClassifierModule, answers: int | None = None, **data: Any) -> ClassBudget:
    source = ClassifierDataModule(made.model_id, **data)
    return class_budget(made, source, made.trainer, answers=answers, words=None, say=lambda _: None)


def batch(rows: int) -> ClassBatch:
    """Questions of the most words about pictures of the largest shape."""
    words = {
        "input_ids": torch.randint(5, 100, (rows, WORDS)),
        "token_type_ids": torch.zeros(rows, WORDS, dtype=torch.long),
        "attention_mask": torch.ones(rows, WORDS, dtype=torch.long),
    }
    words["attention_mask"][0, -1] = 0  # as in every batch of questions: without padding there is no mask
    pixels = {
        "pixel_values": torch.rand(rows, 3, HEIGHT, WIDTH),
        "pixel_mask": torch.ones(rows, HEIGHT, WIDTH, dtype=torch.long),
    }
    return ClassBatch(inputs={**words, **pixels}, ids=["q"] * rows, targets=torch.rand(rows, len(ANSWERS)))


@pytest.fixture(scope="module")
def budget(folder: Path) -> ClassBudget:
    return estimated(module(folder, ClassifierParts()))


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_a_real_step_takes_what_was_estimated(
    name: str, checkpointing: bool, folder: Path, budget: ClassBudget
) -> None:
    needs = next(needs for needs in budget.needs if needs.recipe.name == name)
    real = module(folder, RECIPES[name], activation_checkpointing=checkpointing)
    real.trainer.strategy.connect(real)
    real.configure_model()
    real.train()
    for parameter in real.trainable_parameters():
        parameter.grad = torch.zeros_like(parameter)
    real.loss(batch(1)).backward()  # type: ignore[no-untyped-call] # bitsandbytes settles in its first pass
    assert sum(p.numel() for p in real.trainable_parameters()) == sum(row.trainable for row in needs.parts)
    for rows in (2, 5):
        with Ledger(1, resident(real)) as ledger:
            shown = batch(rows)
            real.loss(shown).backward()  # type: ignore[no-untyped-call]
        peak = needs.backbone[checkpointing].peak.at(rows)
        assert peak == pytest.approx(ledger.peak.at(1), rel=TOLERANCE), rows


def test_the_stand_in_for_pictures_of_one_size_gives_what_transformers_gives() -> None:
    model: Any = tiny().eval()
    asked = batch(3).inputs
    with torch.no_grad():
        own = model(**asked).logits
        model.vilt.embeddings.visual_embed = OneSize(model.vilt.embeddings)
        ours = model(**asked).logits
    torch.testing.assert_close(ours, own, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def b32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config of the published size alone, that names no answers: no weights, no processor."""
    made = tmp_path_factory.mktemp("b32")
    ViltConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, patch_size=32,
        image_size=384, max_position_embeddings=40,
    ).save_pretrained(made)  # fmt: skip
    return made


@pytest.mark.slow
def test_the_published_shape_counts_what_transformers_counts(b32: Path) -> None:
    found = estimated(module(b32, ClassifierParts(head=FULL)), answers=3129)
    config = ViltConfig.from_pretrained(b32, num_labels=3129)
    with torch.device("meta"):
        counts = {name: p.numel() for name, p in ViltForQuestionAnswering(config).named_parameters()}

    def total(*own: str) -> int:
        return sum(count for name, count in counts.items() if name.startswith(own))

    assert [needs.recipe.name for needs in found.needs] == ["all", "last 2", "LoRA", "QLoRA", "head"]
    for needs in found.needs:
        assert sum(row.parameters for row in needs.parts) == sum(counts.values()) == 117_588_537
        assert {row.part: row.parameters for row in needs.parts} == {
            "embeddings": total("vilt.embeddings."),
            "language_model": total("vilt.encoder.", "vilt.layernorm.", "vilt.pooler."),
            "head": total("classifier."),
        }
    trained = {needs.recipe.name: sum(row.trainable for row in needs.parts) for needs in found.needs}
    last = ("vilt.encoder.layer.10.", "vilt.encoder.layer.11.", "vilt.layernorm.", "vilt.pooler.")
    attention = 12 * 4 * LoraSettings().rank * 2 * 768
    assert trained["all"] == sum(counts.values())
    assert trained["last 2"] == total("classifier.", *last)
    assert trained["LoRA"] == trained["QLoRA"] == total("classifier.") + attention
    assert trained["head"] == total("classifier.")
    # 384 x 608 pixels: the largest picture that ViLT's processor makes.
    assert (found.row.height, found.row.width, found.row.patches, found.row.words) == (384, 608, 228, 40)


def test_what_is_held_is_what_the_parts_are(budget: ClassBudget) -> None:
    by_name = {needs.recipe.name: needs for needs in budget.needs}
    everything = by_name["all"]
    weights = 4 * sum(row.parameters for row in everything.parts)
    assert everything.stored("trained") == everything.gradients == weights
    assert everything.optimizer.states == pytest.approx(2 * weights, rel=1e-3)  # AdamW's two, and counts of steps
    rising = [by_name[name].kept(64, checkpointing=False) for name in ("head", "last 2", "all")]
    assert rising == sorted(rising)
    assert by_name["all"].kept(64, checkpointing=True) < by_name["all"].kept(64, checkpointing=False)


@pytest.mark.slow
def test_dropout_keeps_a_mask(folder: Path) -> None:
    def kept(dropout: float) -> int:
        found = estimated(module(folder, ClassifierParts(), dropout=dropout))
        return found.needs[0].kept(8, checkpointing=False)

    assert kept(0.1) > kept(0.0)


def test_the_runs_own_parts_stand_behind_the_others(folder: Path) -> None:
    own = ClassifierParts(
        embeddings=FP32, language_model=PartSettings(precision="fp32", training="full", last_layers=1)
    )
    found = estimated(module(folder, own))
    assert [needs.recipe.name for needs in found.needs][-1] == "this run"
    assert [needs.recipe.configured for needs in found.needs] == [False] * 5 + [True]


def test_a_size_of_the_image_processor_decides_how_large_pictures_are(folder: Path) -> None:
    found = estimated(module(folder, ClassifierParts()), image_processor={"size": {"shortest_edge": 32}})
    assert (found.row.height, found.row.width) == (32, 48)


def answers_of(error: Callable[[], ClassBudget]) -> str:
    with pytest.raises(ValueError, match="answers") as caught:
        error()
    return str(caught.value)


def test_nobody_guesses_how_many_answers_there_are(b32: Path) -> None:
    assert "Add --answers" in answers_of(lambda: estimated(module(b32, ClassifierParts())))
