"""Tests of a model's start where a GPU is the device of new tensors, as it is when Lightning asks for the model.

The device "meta" stands for it: what is made there by accident has no values, and is seen.
"""

from pathlib import Path

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import pair_cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.errors import VlmLitError
from vlm_lit.models.adapters import DroppedOriginal
from vlm_lit.training.classifier import ClassifierModule
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.preference import PreferenceModule
from vlm_lit.training.supervised import SupervisedModule


def _started(made: VisionLanguageModule, device: str) -> dict[str, torch.Tensor]:
    with torch.device(device):
        made.configure_model()
    return made.state_dict()


@pytest.mark.parametrize("family", ["llava", "vilt"])
def test_the_start_is_the_same_whatever_the_device_of_new_tensors(family: str, tmp_path: Path) -> None:
    folder = save(family, tmp_path)

    def made() -> VisionLanguageModule:
        if family == "vilt":
            return ClassifierModule(str(folder), answers=["red", "blue", "two"])
        return SupervisedModule(str(folder), parts=cases.parts())

    here, there = _started(made(), "cpu"), _started(made(), "meta")
    assert here.keys() == there.keys()
    assert {name for name in here if not torch.equal(here[name], there[name])} == set()


def test_the_start_moves_no_random_numbers(tiny_llava: Path) -> None:
    before = torch.get_rng_state()
    _started(SupervisedModule(str(tiny_llava), parts=cases.parts()), "cpu")
    assert torch.equal(before, torch.get_rng_state())


def test_a_fully_trained_part_is_held_once(tiny_llava: Path) -> None:
    made = SupervisedModule(str(tiny_llava), parts=cases.parts())
    made.configure_model()
    assert not any(".original_module." in name for name, _ in made.named_parameters())
    dropped = [module for module in made.modules() if isinstance(module, DroppedOriginal)]
    assert len(dropped) == 1
    assert made.model is not None
    with made.model.disable_adapter(), pytest.raises(VlmLitError, match="was dropped; load the base anew"):
        made.base.get_submodule("model.multi_modal_projector")(torch.zeros(1))


@pytest.mark.parametrize("from_adapter", [False, True])
def test_preferences_hold_the_originals_where_they_are_the_reference(
    from_adapter: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    made: PreferenceModule = pair_cases.module(tiny_llava)
    if from_adapter:
        assert made.model is not None
        made.model.save_pretrained(str(tmp_path / "adapter"))
        made = pair_cases.module(tiny_llava, adapter=tmp_path / "adapter")
    held = any(".original_module." in name for name, _ in made.named_parameters())
    assert held is not from_adapter
