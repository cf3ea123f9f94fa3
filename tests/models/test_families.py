"""Does every path in the fact sheets lead somewhere, and has every parameter exactly one owner?"""

import pytest
import tiny_models
from torch import nn

from vlm_lit.models.families import FAMILIES, PART_NAMES, Family, family_of, names_of, owner_of
from vlm_lit.schema import ConfigError

TINY = {"llava": lambda: tiny_models.llava()[0]}


def test_every_family_has_a_tiny_model() -> None:
    assert set(TINY) == set(FAMILIES)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_path_resolves(model_type: str) -> None:
    model, family = TINY[model_type](), FAMILIES[model_type]
    assert model.config.model_type == model_type
    for part in PART_NAMES:
        assert isinstance(model.get_submodule(family.path(part)), nn.Module)
    layer = model.get_submodule(family.decoder_layers)[0]
    leaves = {name.rsplit(".", 1)[-1] for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    assert leaves == {*family.attention, *family.mlp}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_parameter_has_exactly_one_owner(model_type: str) -> None:
    names = [name for name, _ in TINY[model_type]().named_parameters()]
    owned = [name for part in PART_NAMES for name in names_of(part, names, FAMILIES[model_type])]
    assert sorted(owned) == sorted(names)
    assert all(names_of(part, names, FAMILIES[model_type]) for part in PART_NAMES)


def test_the_longest_path_owns() -> None:
    nested = Family(
        vision_tower="model.visual",
        projector="model.visual.merger",
        language_model="model.language_model",
        head="lm_head",
        decoder_layers="model.language_model.layers",
        attention=(),
        mlp=(),
        causal_prompt=True,
        positions="mrope",
    )
    assert owner_of("model.visual.merger.mlp.0.weight", nested) == "projector"
    assert owner_of("model.visual.blocks.0.weight", nested) == "vision_tower"
    assert owner_of("model.visual_extra.weight", nested) is None


def test_an_unknown_family_says_what_to_add_and_where() -> None:
    with pytest.raises(ConfigError, match=r"'gpt2' is not supported.*families\.py.*tests/tiny_models\.py"):
        family_of("gpt2")
