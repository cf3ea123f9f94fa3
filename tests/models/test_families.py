"""Tests of the facts about families: parameter owners, and errors about unknown or refused architectures.

That every path of every family leads somewhere is among the checks in `tests/families`.
"""

from pathlib import Path

import pytest

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import modules_in_full, target_pattern
from vlm_lit.models.families import FAMILIES, REFUSED, Family, family_of, names_of, owner_of
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings

NESTED = Family(
    vision_tower=("model.visual",),
    projector=("model.visual.merger", "model.newline"),
    language_model=("model.language_model",),
    decoder_layers="model.language_model.layers",
    above_layers=("model.language_model.norm",),
)


def test_the_longest_path_owns() -> None:
    assert owner_of("model.visual.merger.mlp.0.weight", NESTED) == "projector"
    assert owner_of("model.visual.blocks.0.weight", NESTED) == "vision_tower"
    assert owner_of("model.newline", NESTED) == "projector"
    assert owner_of("model.visual_extra.weight", NESTED) is None


def test_an_unknown_family_says_what_to_add_and_where() -> None:
    with pytest.raises(
        ConfigError, match=r"'gpt2' is not supported.*families\.py.*tests/support/tiny_families.*test_families"
    ):
        family_of("gpt2")


@pytest.mark.parametrize("model_type", sorted(REFUSED))
def test_a_refused_family_is_refused_with_its_reason(model_type: str) -> None:
    assert model_type not in FAMILIES
    with pytest.raises(ConfigError) as error:
        family_of(model_type)
    assert REFUSED[model_type] in str(error.value)


def test_a_refused_family_is_refused_before_anything_is_loaded(config: object, tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "config.json").write_text('{"model_type": "minicpmv"}')
    path = config(model={"model_id": str(tmp_path / "refused")})  # type: ignore[operator]
    with pytest.raises(ConfigError, match="brings code of its own"):
        VlmLitCLI("fit", ["--config", str(path)])


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen3_vl", "gemma3", "mllama"])
@pytest.mark.parametrize("part", ["vision_tower", "projector", "language_model"])
def test_the_modules_of_a_part_hold_it_whole_and_nothing_else(name: str, part: str) -> None:
    model, family = TINY[name].build(0)[0], FAMILIES[TINY[name].model_type]
    chosen = modules_in_full(model, part, family)  # type: ignore[arg-type]
    parameters = [n for n, _ in model.named_parameters()]
    inside = [n for n in parameters if any(n.startswith(c + ".") for c in chosen)]
    assert inside == names_of(part, parameters, family)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "mllama"])
@pytest.mark.parametrize("part", ["vision_tower", "projector"])
def test_lora_on_a_part_leaves_the_other_parts_alone(name: str, part: str, tmp_path: Path) -> None:
    fp32 = cases.FP32
    asked = {"vision_tower": fp32, "projector": fp32, "language_model": fp32}
    asked[part] = PartSettings(precision="fp32", training="lora")
    made = cases.module(save(name, tmp_path), PartsSettings(**asked, head=fp32))
    owners = {owner_of(n, FAMILIES[TINY[name].model_type]) for n, p in made.base.named_parameters() if p.requires_grad}
    assert owners == {part}


def test_the_targets_of_a_tower_are_written_once_for_all_its_layers() -> None:
    model, family = TINY["qwen3_vl"].build(0)[0], FAMILIES["qwen3_vl"]
    fp32 = PartSettings(precision="fp32")
    parts = PartsSettings(
        vision_tower=PartSettings(precision="fp32", training="lora"), projector=fp32, language_model=fp32, head=fp32
    )
    pattern = target_pattern(model, family, parts, LoraSettings())
    assert pattern is not None
    assert r"model\.visual\.blocks\.\d+\.attn\.qkv" in pattern
    assert "merger" not in pattern


def test_a_tied_head_cannot_be_trained_or_quantized(tmp_path: Path) -> None:
    folder = save("gemma3", tmp_path)
    for training in ("full", "lora"):
        head = PartSettings(precision="fp32", training=training)
        with pytest.raises(ConfigError, match="shares its weights with the word embeddings"):
            cases.module(folder, cases.parts(head=head))
    with pytest.raises(ConfigError, match="cannot be quantized"):
        cases.module(folder, cases.parts(head=PartSettings(precision="nf4")))


def test_a_part_without_linear_layers_cannot_be_quantized(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="projector has no linear layer"):
        cases.module(save("gemma3", tmp_path), cases.parts(projector=PartSettings(precision="nf4")))
