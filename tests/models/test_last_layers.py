"""Tests of training the last layers alone: in every family that generates, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.family_cases import TINY, TinyFamily
from tests.support.loaded import FP32, adapted, settings
from tests.support.tiny_families.catalogue import save
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import load_adapter, save_adapter, trainable_state
from vlm_lit.models.families import FAMILIES, family_of
from vlm_lit.models.modes import set_modes
from vlm_lit.models.parts import PartSettings, PartsSettings, Training, parts_table
from vlm_lit.settings import as_settings

FULL = PartSettings(precision="fp32", training="full")
LAST = settings(projector=FP32, language_model=replace(FULL, last_layers=1))


@pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)
def test_the_last_layer_and_what_stands_behind_it_are_trained(tiny: TinyFamily, folders: dict[str, Path]) -> None:
    model, family = adapted(folders[tiny.name], LAST)
    base, facts = model.get_base_model(), FAMILIES[tiny.model_type]
    count = len(list(base.get_submodule(facts.decoder_layers).children()))
    trained = {n.partition(".modules_to_save.")[0] for n, p in base.named_parameters() if p.requires_grad}
    assert trained == {f"{facts.decoder_layers}.{count - 1}", *facts.above_layers}
    (row,) = (row for row in parts_table(base, family, LAST, 1e-4) if row.part == "language_model")
    plain = tiny.build(0)[0]
    assert row.trainable == sum(p.numel() for root in trained for p in plain.get_submodule(root).parameters())
    batch = cases.encode(cases.encoder(folders[tiny.name]), [cases.conversation(1, 1)])
    set_modes(base, family, LAST, True)
    base(**batch.inputs).logits.sum().backward()
    moved = {n for n, p in base.named_parameters() if p.grad is not None and p.requires_grad}
    assert {n.partition(".modules_to_save.")[0] for n in moved} == trained


def test_a_tied_head_stays_frozen_beside_the_last_layers(tmp_path: Path) -> None:
    whole = replace(LAST, language_model=FULL)
    with pytest.raises(ConfigError, match="shares its weights with the word embeddings"):
        adapted(save("gemma3", tmp_path), whole)
    model, _ = adapted(tmp_path, LAST)
    head = model.get_base_model().get_output_embeddings()
    assert head.weight is model.get_base_model().get_input_embeddings().weight
    assert not head.weight.requires_grad


def test_more_layers_than_there_are(tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=r"last_layers is 3, but this checkpoint has 2 decoder layers.*from 1 to 2"):
        adapted(tiny_llava, replace(LAST, language_model=replace(FULL, last_layers=3)))


@pytest.mark.parametrize("layers", [0, -1])
def test_fewer_than_one(layers: int) -> None:
    with pytest.raises(ConfigError, match=f"last_layers is {layers}; it must be at least 1"):
        replace(FULL, last_layers=layers)


def test_a_part_that_is_not_trained() -> None:
    with pytest.raises(ConfigError, match="last_layers is 2 where training is frozen; there is nothing to train"):
        PartSettings(training="frozen", last_layers=2)


@pytest.mark.parametrize(
    ("part", "training", "said"),
    [
        ("language_model", "lora", "it goes with training: full. LoRA on its last layers alone is lora.last_share"),
        ("vision_tower", "full", "it goes with training: lora"),
        ("projector", "full", "only the language_model and the vision_tower are trained by their last layers"),
        ("embeddings", "full", "only the language_model and the vision_tower are trained by their last layers"),
        ("head", "lora", "only the language_model and the vision_tower are trained by their last layers"),
    ],
)
def test_a_part_that_is_not_trained_so(part: str, training: Training, said: str) -> None:
    said = re.escape(f"{part}.last_layers is 2 with training: {training}, but {said}. Set {part}.last_layers to null")
    row = {"training": training, "last_layers": 2}
    with pytest.raises(ConfigError, match=said):
        PartsSettings(**{part: PartSettings(training=training, last_layers=2)})
    with pytest.raises(ConfigError, match=f"model.parts: {said}"):
        as_settings(PartsSettings, {part: row}, "model.parts")


def test_rows_beside_trained_weights_are_what_they_were_where_nothing_new_is_used() -> None:
    plain = {"precision": "bf16", "training": "frozen", "learning_rate": None}
    names = ["vision_tower", "projector", "language_model", "head"]
    stated = PartsSettings(projector=PartSettings(), language_model=PartSettings()).stated(family_of("llava"))
    assert stated == dict.fromkeys(names, plain)
    assert list(stated) == names
    used = PartsSettings(language_model=replace(FULL, last_layers=2)).stated(family_of("vilt"))
    assert list(used) == ["vision_tower", "projector", "embeddings", "language_model", "head"]
    assert used["language_model"] == {**plain, "precision": "fp32", "training": "full", "last_layers": 2}
    again = PartsSettings(**{part: PartSettings(**row) for part, row in used.items()})  # type: ignore[arg-type]
    assert again.language_model.last_layers == 2
    assert again.embeddings == PartSettings()


def test_a_trained_run_of_the_last_layer_goes_back_onto_a_fresh_base(tiny_llava: Path, tmp_path: Path) -> None:
    trained, _ = adapted(tiny_llava, LAST)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_state(trained).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(trained, tmp_path / "adapter", {})
    fresh, _ = adapted(tiny_llava, LAST)
    load_adapter(fresh, tmp_path / "adapter")
    batch = cases.encode(cases.encoder(tiny_llava), [cases.conversation(1, 1)])
    found, expected = (cases.logits(model.get_base_model(), batch) for model in (fresh, trained))
    assert torch.equal(found, expected)
