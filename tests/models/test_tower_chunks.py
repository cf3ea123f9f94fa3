"""Tests of towers that look at few pictures at a time: the same features, without one attention over all."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.models import tower_chunks
from vlm_lit.models.families import FAMILIES, Family
from vlm_lit.models.tower_chunks import ChunkedPixtralTower
from vlm_lit.training.supervised import SupervisedModule

LLAVA: Family = FAMILIES["llava"]


@pytest.fixture
def made(tmp_path: Path) -> tuple[SupervisedModule, dict[str, Tensor]]:
    """Pixtral with a trained tower, and a batch of four pictures of several sizes."""
    folder = save("pixtral", tmp_path)
    module = cases.module(folder).eval()
    talks = [cases.conversation(1, 1, seed) for seed in range(4)]
    return module, cases.encode(cases.encoder(folder), talks).inputs


def looked(module: SupervisedModule, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Patches of each attention of the first layer, and with it `inputs` gone through the tower."""
    seen: list[int] = []
    plain = nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, *rest: Tensor, **named: object) -> Tensor:
        seen.append(query.shape[2])
        return plain(query, *rest, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(nn.functional, "scaled_dot_product_attention", noted)
        features(module, inputs)
    return seen


def features(module: SupervisedModule, inputs: dict[str, Tensor]) -> list[Tensor]:
    fields = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    found = LLAVA.backbone_of(module.base).get_image_features(**fields)
    return [*found.pooler_output, found.last_hidden_state, *(h for h in found.hidden_states if h is not None)]


def test_pictures_are_looked_at_in_chunks_with_the_same_features_and_gradients(
    made: tuple[SupervisedModule, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, inputs = made
    tower = module.base.get_submodule(LLAVA.vision_tower[0])
    assert type(tower) is ChunkedPixtralTower
    patches = [int((h // tower.patch_size) * (w // tower.patch_size)) for h, w in inputs["image_sizes"]]
    assert len(set(map(tuple, inputs["image_sizes"].tolist()))) > 1
    assert set(looked(module, inputs, monkeypatch)) == {sum(patches)}
    weight = next(p for name, p in tower.named_parameters() if "patch_conv" in name)
    weight.requires_grad_(True)
    whole = features(module, inputs)
    (gradient,) = torch.autograd.grad(whole[0].square().sum() + whole[-1].square().sum(), weight)
    monkeypatch.setattr(tower_chunks, "MOST_PATCHES", patches[0] + patches[1])
    assert max(looked(module, inputs, monkeypatch)) <= max(patches[0] + patches[1], *patches)
    found = features(module, inputs)
    for one, other in zip(found, whole, strict=True):
        # float32, the same sums in other blocks.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    (other_gradient,) = torch.autograd.grad(found[0].square().sum() + found[-1].square().sum(), weight)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


def test_a_picture_beyond_the_limit_is_alone(
    made: tuple[SupervisedModule, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, inputs = made
    tower = module.base.get_submodule(LLAVA.vision_tower[0])
    patches = [int((h // tower.patch_size) * (w // tower.patch_size)) for h, w in inputs["image_sizes"]]
    monkeypatch.setattr(tower_chunks, "MOST_PATCHES", 1)
    layers = len(tower.transformer.layers)  # type: ignore[arg-type, union-attr]
    assert looked(module, inputs, monkeypatch) == [n for n in patches for _ in range(layers)]


def test_a_copy_of_the_model_looks_with_its_own_weights(
    made: tuple[SupervisedModule, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, inputs = made
    monkeypatch.setattr(tower_chunks, "MOST_PATCHES", 1)
    with torch.no_grad():
        tower = module.base.get_submodule(LLAVA.vision_tower[0])
        other = copy.deepcopy(tower)
        fields = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
        before = tower(**fields).last_hidden_state
        for parameter in other.parameters():
            parameter.mul_(2.0)
        assert torch.equal(tower(**fields).last_hidden_state, before)
        assert not torch.equal(other(**fields).last_hidden_state, before)
