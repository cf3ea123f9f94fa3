"""Tests of a tower that is run once for two passes: the second says the same, and only where that is so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.pair_cases import module, preferences, step
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.shared_tower import SharedTower
from vlm_lit.training.preference import PreferenceModule

INSIDE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def calls(made: PreferenceModule) -> list[str]:
    """Takes the name of each of the towers' roots whose forward pass is computed."""
    assert made.family is not None
    seen: list[str] = []
    for root in made.family.vision_tower:
        first = next(m for m in made.base.get_submodule(root).modules() if not list(m.children()))
        first.register_forward_hook(lambda *_, root=root: seen.append(root))
    return seen


@pytest.mark.parametrize("family", TINY)
def test_the_tower_runs_once_and_changes_no_bit(family: str, folders: dict[str, Path]) -> None:
    made = module(folders[family])
    batch = step(folders[family], preferences(1), packing=False).micro_batches[0]
    reference = made.reference_log_probs(batch)
    with torch.no_grad():
        policy, _ = made.answer_log_probs(batch)
    seen = calls(made)
    with torch.no_grad():
        made.answer_log_probs(batch)
    once = len(seen)
    seen.clear()
    pairs = made.log_probs(batch)
    assert once > 0
    assert len(seen) == (2 * once if family in INSIDE else once)
    assert pairs.reference_chosen is not None
    assert torch.equal(torch.stack([pairs.chosen, pairs.rejected], 1).flatten(), policy)
    assert torch.equal(pairs.reference_chosen, reference[0::2])
    # Behind it the tower is itself again.
    seen.clear()
    with torch.no_grad():
        assert torch.equal(made.answer_log_probs(batch)[0], policy)
    assert len(seen) == once


@pytest.mark.parametrize("training", ["lora", "full"])
def test_a_tower_that_trains_runs_twice(training: str, tiny_llava: Path) -> None:
    parts = cases.parts(vision_tower=PartSettings(precision="fp32", training=training))  # type: ignore[arg-type]
    made = module(tiny_llava, parts=parts)
    assert made.family is not None
    assert SharedTower(made.base, made.family, made.parts)._towers == []
    (batch,) = step(tiny_llava, preferences(1)).micro_batches
    pairs = made.log_probs(batch)
    with torch.no_grad():
        assert torch.equal(made.answer_log_probs(batch)[0][0::2], pairs.chosen)


def test_a_pass_that_fails_leaves_the_tower_as_it_was(tiny_llava: Path) -> None:
    made = module(tiny_llava)
    assert made.family is not None
    tower = SharedTower(made.base, made.family, made.parts)
    (batch,) = step(tiny_llava, preferences(1)).micro_batches
    with torch.no_grad():
        before, _ = made.answer_log_probs(batch)
        with tower.first():
            made.answer_log_probs(batch)
        with pytest.raises(RuntimeError), tower.second():
            torch.zeros(2) @ torch.zeros(3)
        assert torch.equal(made.answer_log_probs(batch)[0], before)
        with tower.second():
            assert torch.equal(made.answer_log_probs(batch)[0], before)
