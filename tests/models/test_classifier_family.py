"""Tests of the classifying families: parts and owners, LoRA targets, quantization, what a step moves, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.support import classifiers as cases
from tests.support.classifiers import FP32, FULL
from tests.support.tiny_families.catalogue import CLASSIFIERS, save
from tests.support.tiny_families.vilt import ANSWERS
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import attach_adapters, recompute_activations, target_pattern
from vlm_lit.models.class_logits import class_logits
from vlm_lit.models.families import (
    FAMILIES,
    LAYERED,
    PART_NAMES,
    Family,
    check_task,
    family_of_class,
    names_of,
    owner_of,
)
from vlm_lit.models.loading import load_base
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.mixed_precision import check_precision
from vlm_lit.models.modes import set_modes
from vlm_lit.models.parts import PartSettings, PartsSettings, parts_table
from vlm_lit.models.quantization import quantized_modules

LORA = PartSettings(precision="fp32", training="lora")
NF4 = PartSettings(precision="nf4", training="lora")
LAYER = "vilt.encoder.layer.{}."
VILT = FAMILIES["vilt"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_path_leads_somewhere_and_each_parameter_has_one_owner(name: str) -> None:
    tiny = CLASSIFIERS[name]
    family = FAMILIES[tiny.model_type]
    model = family.auto().from_config(tiny.build(0)[0].config)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    assert family.task == "classify"
    for part in filter(family.roots, PART_NAMES):
        assert all(root in modules for root in family.roots(part)), part
        assert names_of(part, parameters, family), part
    assert [n for n in parameters if owner_of(n, family) is None] == []
    assert family.backbone_of(model) is modules["vilt"]
    behind = [n for n in names_of("language_model", parameters, family) if not n.startswith(family.decoder_layers)]
    assert behind == [n for n in parameters if n.startswith(tuple(f"{path}." for path in family.above_layers))]
    assert hasattr(model.config, str(family.dropout))
    assert family_of_class(type(model).__name__) is family


def targets(**lora: Any) -> set[str]:
    """The layers of the tiny ViLT that LoRA goes on, without their layer's path, once they are the same in all."""
    model, _ = CLASSIFIERS["vilt"].build(0)
    adapted = attach_adapters(model, VILT, cases.parts(language_model=LORA), LoraSettings(**lora), seed=0)
    on = {name for name, module in adapted.get_base_model().named_modules() if hasattr(module, "lora_A")}
    by_layer = [{n.removeprefix(LAYER.format(k)) for n in on if n.startswith(LAYER.format(k))} for k in range(4)]
    assert sum(map(len, by_layer)) == len(on)
    assert all(found == by_layer[0] for found in by_layer)
    return by_layer[0]


ATTENTION = {f"attention.{leaf}" for leaf in ("attention.query", "attention.key", "attention.value", "output.dense")}
MLP = {"intermediate.dense", "output.dense"}


def test_lora_tells_layers_of_the_same_name_apart() -> None:
    assert targets(targets=["attention"]) == ATTENTION
    assert targets(targets=["mlp"]) == MLP
    assert targets(targets=["attention", "mlp"]) == ATTENTION | MLP
    assert targets(leaves=["query", "output.dense"]) == {"attention.attention.query", "output.dense"}
    with pytest.raises(ConfigError, match=r"names 'dense'; this family's decoder layers have query, key, value, att"):
        targets(leaves=["dense"])


def test_lora_on_the_last_quarter_of_the_layers() -> None:
    model, _ = CLASSIFIERS["vilt"].build(0)
    lora = LoraSettings(targets=["mlp"], last_share=0.25)
    pattern = target_pattern(model, VILT, cases.parts(language_model=LORA), lora)
    assert pattern == r"(?:vilt\.encoder\.layer\.(?:3)\.(?:intermediate\.dense|output\.dense))"


def test_nf4_lands_on_the_encoder_and_pooler_alone_and_the_table_says_so(tmp_path: Path) -> None:
    folder, parts = save("vilt", tmp_path), cases.parts(language_model=NF4)
    base, _ = cases.load(folder, parts)
    found = quantized_modules(base, VILT)
    assert {part: len(names) for part, names in found.items() if names} == {"language_model": 4 * 6 + 1}
    adapted = attach_adapters(base, VILT, parts, LoraSettings(rank=4), seed=0)
    rows = {row.part: row for row in parts_table(adapted.get_base_model(), VILT, parts, 1e-4)}
    plain = {
        part: sum(p.numel() for n, p in cases.tiny().named_parameters() if owner_of(n, VILT) == part) for part in rows
    }
    assert {part: row.parameters for part, row in rows.items()} == plain
    assert list(rows) == ["embeddings", "language_model", "head"]
    assert rows["language_model"].modules_4bit == 25
    assert rows["language_model"].trainable == 4 * 4 * 4 * (64 + 64)  # layers x targets x rank x (inputs + outputs)
    assert rows["head"].trainable == rows["head"].parameters
    assert rows["embeddings"].trainable == rows["embeddings"].modules_4bit == 0


def moved(folder: Path, parts: PartsSettings, **lora: Any) -> tuple[set[str], set[str]]:
    """The names of a model's weights that a step of AdamW changes, and those of all others, compared bit by bit."""
    base, family = cases.load(folder, parts)
    adapted = attach_adapters(base, family, parts, LoraSettings(rank=4, dropout=0.0, **lora), seed=0)
    before = {name: parameter.detach().clone() for name, parameter in adapted.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(2):  # what LoRA multiplies by is zero before the first step
        cases.loss(class_logits(base, cases.inputs(), 1), cases.targets()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    after = dict(adapted.named_parameters())
    assert before.keys() == after.keys()
    names = {name: name.removeprefix("base_model.model.") for name in before}
    changed = {names[name] for name, old in before.items() if not torch.equal(old, after[name].detach())}
    return changed, set(names.values()) - changed


def masters(root: str) -> set[str]:
    """Names of the copies that PEFT trains of the module at `root`."""
    return {f"{root}.modules_to_save.default.{name}" for name, _ in cases.tiny().get_submodule(root).named_parameters()}


LAST_TWO = {LAYER.format(2)[:-1], LAYER.format(3)[:-1], "vilt.layernorm", "vilt.pooler"}


@pytest.mark.parametrize(
    ("changed", "trained"),
    [
        ({}, {"classifier"}),
        ({"language_model": PartSettings(precision="fp32", training="full", last_layers=2)}, {"classifier", *LAST_TWO}),
        (
            {
                "language_model": PartSettings(precision="bf16", training="full", last_layers=1),
                "embeddings": PartSettings(),
            },
            {"classifier", LAYER.format(3)[:-1], "vilt.layernorm", "vilt.pooler"},
        ),
        ({"embeddings": FULL}, {"classifier", "vilt.embeddings"}),
        (
            {"embeddings": FULL, "language_model": FULL},
            {"classifier", "vilt.embeddings", "vilt.encoder", "vilt.layernorm", "vilt.pooler"},
        ),
    ],
    ids=["head", "last 2", "last 1 in bf16", "embeddings", "all"],
)
def test_a_step_moves_what_was_asked_for_and_nothing_else(
    changed: dict[str, PartSettings], trained: set[str], tmp_path: Path
) -> None:
    folder, parts = save("vilt", tmp_path), cases.parts(**changed)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in str(changed)):
        found, left = moved(folder, parts)
    asked = {name for root in trained for name in masters(root)}
    # Adding a number to every key changes no weight of a softmax, and a question reaches few words.
    idle = {name for name in asked if name.endswith("key.bias")}
    assert asked - idle <= found <= asked
    assert {name for name in left if "modules_to_save" in name} <= idle


def test_a_step_moves_lora_on_nf4_and_leaves_every_packed_weight(tmp_path: Path) -> None:
    found, left = moved(save("vilt", tmp_path), cases.parts(language_model=NF4), targets=["attention", "mlp"])
    asked = masters("classifier") | {
        f"{LAYER.format(k)}{leaf}.lora_{side}.default.weight"
        for k in range(4)
        for leaf in ATTENTION | MLP
        for side in "AB"
    }
    # As above of the keys: a query's product with B alone moves with A.
    assert found == asked
    assert sum("base_layer.weight" in name for name in left) == 4 * 6


def gradients(folder: Path, *, recomputed: bool) -> dict[str, Tensor]:
    parts = cases.parts(language_model=PartSettings(precision="fp32", training="full", last_layers=2))
    base, family = cases.load(folder, parts, dropout=0.2)
    attach_adapters(base, family, parts, LoraSettings(), seed=0)
    if recomputed:
        recompute_activations(base, family, LAYERED)
    set_modes(base, family, parts, True)
    torch.manual_seed(3)
    cases.loss(class_logits(base, cases.inputs(), None), cases.targets()).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in base.named_parameters() if p.grad is not None}


def test_recomputed_activations_give_the_same_gradients_with_dropout(tmp_path: Path) -> None:
    folder = save("vilt", tmp_path)
    plain, again = (gradients(folder, recomputed=recomputed) for recomputed in (False, True))
    assert plain.keys() == again.keys()
    assert len(plain) == len(masters("classifier") | {n for root in LAST_TWO for n in masters(root)})
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def drops(base: PreTrainedModel) -> set[str]:
    return {name for name, module in base.named_modules() if isinstance(module, nn.Dropout) and module.training}


def test_only_what_is_trained_has_dropout(tmp_path: Path) -> None:
    folder = save("vilt", tmp_path)
    layer = (".attention.attention.dropout", ".attention.output.dropout", ".output.dropout")
    for last, there in ((2, {2, 3}), (None, {0, 1, 2, 3})):
        parts = cases.parts(language_model=PartSettings(precision="fp32", training="full", last_layers=last))
        base, family = cases.load(folder, parts)
        attach_adapters(base, family, parts, LoraSettings(), seed=0)
        set_modes(base, family, parts, True)
        trained = {name for name in drops(base) if ".original_module" not in name}
        numbers = {int(name.split("layer.")[1].split(".")[0]) for name in trained}
        assert numbers == there
        assert len(trained) == len(there) * len(layer)
        set_modes(base, family, parts, False)
        assert drops(base) == set()


def test_a_module_for_text_refuses_a_classifier_and_the_other_way_round(tiny_llava: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'vilt' chooses its answers from a list.*class_path to vlm_lit.Classifier"):
        load_base(str(save("vilt", tmp_path)), parts=PartsSettings(), quantization=cases.QUANTIZATION)
    with pytest.raises(ConfigError, match=r"'llava' generates its answers word by word.*to vlm_lit.SupervisedModule"):
        cases.load(tiny_llava, cases.parts())
    check_task("vilt", "classify")
    with pytest.raises(ConfigError, match=r"'lxmert' is not supported: it reads regions that a Faster R-CNN"):
        check_task("lxmert", "classify")


def test_a_trainers_precision_is_held_against_the_parts_that_there_are() -> None:
    check_precision("32-true", PartsSettings(language_model=FP32, embeddings=FP32, head=FULL), VILT)
    with pytest.raises(ConfigError, match="only autocast can multiply"):
        check_precision("32-true", PartsSettings(language_model=FP32, embeddings=PartSettings(), head=FULL), VILT)
    # A model that generates has no embeddings part, whose default is bf16.
    check_precision("32-true", PartsSettings(vision_tower=FP32, projector=FULL, language_model=FP32, head=FP32))


def test_the_head_of_a_classifier_is_tied_to_nothing(tmp_path: Path) -> None:
    parts = cases.parts(head=PartSettings(precision="nf4"))
    base, family = cases.load(save("vilt", tmp_path), parts)
    assert isinstance(base.get_submodule("classifier.3"), bnb.nn.Linear4bit)
    assert isinstance(family, Family)
    assert base.config.tie_word_embeddings  # which ViLT's config says in any case
    assert tuple(base.config.id2label.values()) == ANSWERS
