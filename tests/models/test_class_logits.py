"""Tests of a classifier's scores: equal to transformers' own, with random draws that leave the run's alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support import classifiers as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.class_logits import class_logits
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.modes import set_modes
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.patch_draw import seeded_patches

ALL = cases.parts(embeddings=cases.FULL, language_model=cases.FULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("vilt", tmp_path_factory.mktemp("vilt"))


def test_logits_and_loss_are_those_of_transformers_own_forward_pass(folder: Path) -> None:
    base, _ = cases.load(folder, cases.parts())
    soft = cases.targets()
    torch.manual_seed(7)
    expected = base(**cases.inputs(), labels=soft)
    found = class_logits(base, cases.inputs(), 7)
    assert torch.equal(found, expected.logits)
    # Theirs is the mean over questions and answers, times the answers.
    torch.testing.assert_close(cases.loss(found, soft), expected.loss, rtol=1e-6, atol=1e-6)


def test_a_step_is_that_of_transformers_own_loss(folder: Path) -> None:
    """One step of AdamW on every weight, ours on PEFT's copies, theirs on the plain model."""
    theirs, _ = cases.load(folder, cases.parts())
    theirs.requires_grad_(True)
    torch.manual_seed(7)
    theirs(**cases.inputs(), labels=cases.targets()).loss.backward()
    ours, family = cases.load(folder, ALL)
    attach_adapters(ours, family, ALL, LoraSettings(), seed=0)
    cases.loss(class_logits(ours, cases.inputs(), 7), cases.targets()).backward()  # type: ignore[no-untyped-call]
    for model in (theirs, ours):
        # With AdamW's usual eps a gradient near zero moves its weight as far as rounding says.
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, eps=1e-3).step()
    moved = {name.replace(".modules_to_save.default", ""): p for name, p in ours.named_parameters() if p.requires_grad}
    expected = dict(theirs.named_parameters())
    assert moved.keys() == expected.keys()
    for name, parameter in expected.items():
        assert torch.allclose(moved[name], parameter, rtol=0, atol=1e-6), name


def test_scores_follow_from_the_seed_and_leave_the_global_generator_where_it_was(folder: Path) -> None:
    base, _ = cases.load(folder, cases.parts())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = class_logits(base, cases.inputs(), 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(class_logits(base, cases.inputs(), 3), first)
    # The model alone does move it, and by how much depends on the pictures: that is what the fork is for.
    plain = torch.get_rng_state()
    base(**cases.inputs())
    assert not torch.equal(torch.get_rng_state(), plain)


def test_a_question_scores_alone_what_it_scores_in_a_batch(folder: Path) -> None:
    base, _ = cases.load(folder, cases.parts())
    with torch.no_grad():
        together = class_logits(base, cases.inputs(), 3)
        other = class_logits(base, cases.inputs(), 4)
        alone = torch.cat([class_logits(base, cases.inputs([row]), 3) for row in range(3)])
    # Sums over the same numbers in another order, and masked patches that count for nothing.
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other, together, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def losses(folder: Path, *, evaluated: bool, seed: int | None) -> list[float]:
    """Four steps with dropout, whose random numbers nobody seeds in between; an evaluation after two of them."""
    base, family = cases.load(folder, ALL, dropout=0.3)
    attach_adapters(base, family, ALL, LoraSettings(), seed=0)
    optimizer = torch.optim.AdamW([p for p in base.parameters() if p.requires_grad], lr=1e-3)
    torch.manual_seed(11)
    found = []
    for step in range(4):
        set_modes(base, family, ALL, True)
        loss = cases.loss(class_logits(base, cases.inputs(), None), cases.targets())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(float(loss.detach()))
        if evaluated and step == 1:
            set_modes(base, family, ALL, False)
            with torch.no_grad():
                class_logits(base, cases.inputs(), seed)
    return found


def test_an_evaluation_in_the_middle_moves_no_training_number(folder: Path) -> None:
    expected = losses(folder, evaluated=False, seed=None)
    assert losses(folder, evaluated=True, seed=3) == expected
    unseeded = losses(folder, evaluated=True, seed=None)
    assert unseeded[:2] == expected[:2]
    assert unseeded[2] != expected[2]


def drawn(seed: int) -> Tensor:
    with seeded_patches(seed):
        return torch.rand(4)


def test_draws_within_are_the_seeds_and_errors_put_the_generator_back() -> None:
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), seeded_patches(3):
        torch.rand(2).view(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_are_float32_where_parts_are_not(folder: Path) -> None:
    sixteen = PartsSettings(projector=cases.parts().projector, language_model=cases.parts().projector)
    base, _ = cases.load(folder, sixteen)
    assert base.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert class_logits(base, cases.inputs(), 0).dtype == torch.float32
