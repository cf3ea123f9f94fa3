"""Tests of vision features: they follow from the frozen tower alone, and stand in for an image's pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import stored, tiny_models
from tests.support.family_cases import TINY
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.errors import ConfigError
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.vision_features import check_cacheable, tower_identity
from vlm_lit.schema import Conversation, ImageRef, StepBatch, TokenBatch
from vlm_lit.training.supervised import SupervisedModule


@lru_cache(maxsize=1)
def _module(folder: Path) -> SupervisedModule:
    return cases.module(folder)


def _windows(module: SupervisedModule, folder: Path, root: Path) -> tuple[TokenBatch, TokenBatch]:
    """The same conversations without pixels and with them."""
    encoder = cases.encoder(folder)
    talks = cases.about_one_picture(1) + cases.about_one_picture(2)
    store = stored.filled(root, module.base, FAMILIES["llava"], encoder, talks[:1] + talks[4:5])
    policy = OverLengthPolicy(encoder, None, "error")
    found = [StepCollator(encoder, policy, 8, packing=True, store=s)(talks[:4]) for s in (store, None)]
    cached, live = (window.micro_batches[0] for window in found if isinstance(window, StepBatch))
    return cached, live


def test_the_tower_is_not_run_for_cached_images_and_the_projector_is(folders: dict[str, Path], tmp_path: Path) -> None:
    module = cases.module(folders["llava"])
    cached, live = _windows(module, folders["llava"], tmp_path)
    ran: list[str] = []
    for path in ("model.vision_tower", "model.multi_modal_projector"):
        module.base.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.append(path))
    module.loss(cached)
    assert ran == ["model.multi_modal_projector"]
    module.loss(live)
    assert ran[1:] == ["model.vision_tower", "model.multi_modal_projector"]


def test_a_frozen_projector_gives_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    module = cases.module(folders["llava"], cases.parts(projector=cases.FP32))
    cached, live = _windows(module, folders["llava"], tmp_path)
    found, expected = cases.gradients(module, cached), cases.gradients(module, live)
    assert {name for name, grad in found.items() if grad is not None} == {n for n in expected if "lora_" in n}
    for name, grad in expected.items():
        assert grad is None or torch.allclose(grad, found[name], rtol=1e-5, atol=1e-8)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_under_autocast_features_are_what_the_live_tower_computes(
    folders: dict[str, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    module = cases.module(folders["llava"])
    module.base.get_submodule("model.vision_tower").to(dtype)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        cached, live = _windows(module, folders["llava"], tmp_path)
        assert cached.features is not None
        assert cached.features[0][0].dtype == dtype
        assert torch.equal(module.loss(cached), module.loss(live))


def test_an_image_made_smaller_to_fit_is_looked_at_and_the_others_are_not(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    base, encoder = _module(folders["qwen2_vl"]).base, cases.encoder(folders["qwen2_vl"])
    large, small = (
        Conversation(id=name, turns=cases.conversation(1, 1).turns, images=(ImageRef(pixels=picture),))
        for name, picture in (("large", tiny_models.picture(1, (64, 64))), ("small", tiny_models.picture(2, (20, 20))))
    )
    store = stored.filled(tmp_path, base, FAMILIES["qwen2_vl"], encoder, [large, small])
    longest = max(cases.encode(encoder, [small]).lengths) + 2
    policy = OverLengthPolicy(encoder, longest, "shrink_image")
    window = StepCollator(encoder, policy, 2, packing=True, store=store)([large, small])
    assert isinstance(window, StepBatch)
    assert window.changed == ["large"]
    seen = {
        batch.ids[0]: ("pixel_values" in batch.inputs, batch.features is not None) for batch in window.micro_batches
    }
    assert seen == {"large": (True, False), "small": (False, True)}


def test_an_identity_changes_with_the_tower_and_with_nothing_else(folders: dict[str, Path]) -> None:
    for name, projector in (("llava", "model.multi_modal_projector"), ("qwen3_vl", "model.visual.merger")):
        module, family = cases.module(folders[name]), FAMILIES[TINY[name].model_type]
        base, before = module.base, tower_identity(module.base, family)
        assert before == tower_identity(cases.module(folders[name]).base, family)
        with torch.no_grad():
            for root in (projector, "model.language_model"):
                for parameter in base.get_submodule(root).parameters():
                    parameter.zero_()
        assert tower_identity(base, family) == before
        with torch.no_grad():
            next(base.get_submodule(family.vision_tower[0]).parameters()).flatten()[0] += 1e-3
        assert tower_identity(base, family)["weights"] != before["weights"]


def test_an_identity_changes_with_the_chosen_layer(folders: dict[str, Path]) -> None:
    base = cases.module(folders["llava"]).base
    before = tower_identity(base, FAMILIES["llava"])
    base.config.vision_feature_layer = -1  # type: ignore[union-attr]
    assert tower_identity(base, FAMILIES["llava"]) != before


@pytest.mark.parametrize(
    ("tower", "reason"),
    [
        (PartSettings(training="lora"), "vision_tower.training is lora: it would say something else after every step"),
        (PartSettings(training="full", precision="fp32"), "vision_tower.training is full"),
        (PartSettings(precision="int8"), "int8 looks for outliers over the whole batch"),
    ],
)
def test_a_tower_that_would_say_something_else_is_refused(tower: PartSettings, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_cacheable(FAMILIES["llava"], "llava", PartsSettings(vision_tower=tower))
    check_cacheable(FAMILIES["llava"], "llava", PartsSettings())


def test_a_family_that_nobody_has_tried_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="model type 'new' cannot be cached"):
        check_cacheable(replace(FAMILIES["llava"], projected=None), "new", PartsSettings())
