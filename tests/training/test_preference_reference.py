"""Tests of equality 9 (referenced): the reference of a run is its start, to the bit, after any number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from tests.support import family_cases as cases
from tests.support.pair_cases import module, move, preferences, step
from vlm_lit.models.adapter_state import save_adapter
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.training.preference import PreferenceModule

FP32: Final = cases.FP32
FULL: Final = PartSettings(precision="fp32", training="full")
LORA: Final = PartSettings(precision="fp32", training="lora")
PARTS: Final[dict[str, PartsSettings]] = {
    "nf4 with lora, projector in full": cases.parts(),
    "lora alone": cases.parts(projector=FP32),
    "projector alone": cases.parts(language_model=FP32),
    "lora everywhere": cases.parts(vision_tower=LORA, projector=LORA),
    "everything in full": cases.parts(vision_tower=FULL, language_model=FULL, head=FULL),
}


def sft(folder: Path, into: Path, parts: PartsSettings | None = None) -> Path:
    """The saved adapter of a run before."""
    tuned = module(folder, parts=parts)
    assert tuned.model is not None
    save_adapter(tuned.model, into / "sft", {})
    return into / "sft"


def steps(made: PreferenceModule, folder: Path, count: int) -> None:
    optimizer = torch.optim.AdamW(made.trainable_parameters(), lr=1e-2)
    for _ in range(count):
        optimizer.zero_grad()
        for batch in step(folder, preferences()).micro_batches:
            made.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def by_reference(made: PreferenceModule, folder: Path) -> list[Tensor]:
    return [made.reference_log_probs(batch) for batch in step(folder, preferences()).micro_batches]


def by_policy(made: PreferenceModule, folder: Path) -> list[Tensor]:
    batches = step(folder, preferences()).micro_batches
    with torch.no_grad():
        found = [made.log_probs(batch) for batch in batches]
    return [torch.stack([pairs.chosen, pairs.rejected], 1).flatten() for pairs in found]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("adapted", [False, True], ids=["from the base", "from an adapter"])
def test_equality_9_the_reference_is_the_start_after_any_steps(
    parts: str, adapted: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    adapter = sft(tiny_llava, tmp_path, PARTS[parts]) if adapted else None
    made = module(tiny_llava, moved=False, parts=PARTS[parts], adapter=adapter)
    before, start = by_reference(made, tiny_llava), by_policy(made, tiny_llava)
    assert all(map(torch.equal, before, start))
    steps(made, tiny_llava, 5)
    assert all(map(torch.equal, by_reference(made, tiny_llava), before))
    assert not any(map(torch.equal, by_policy(made, tiny_llava), start))
    # A model that is loaded anew is the same start; the base is another where the run began at an adapter.
    fresh = module(tiny_llava, moved=False, parts=PARTS[parts], adapter=adapter)
    assert all(map(torch.equal, by_policy(fresh, tiny_llava), before))
    base = module(tiny_llava, moved=False, parts=PARTS[parts])
    assert all(map(torch.equal, by_policy(base, tiny_llava), before)) is not adapted


@pytest.mark.parametrize("adapted", [False, True])
def test_the_model_is_the_policy_again_behind_the_reference(adapted: bool, tiny_llava: Path, tmp_path: Path) -> None:
    adapter = sft(tiny_llava, tmp_path) if adapted else None
    made = module(tiny_llava, moved=False, adapter=adapter)
    move(made, seed=9)
    names = [name for name, p in made.named_parameters() if p.requires_grad]
    kept = {name: p.detach().clone() for name, p in made.named_parameters()}
    with made.reference.in_place():
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError), made.reference.in_place():
        torch.zeros(2) @ torch.zeros(3)
    by_reference(made, tiny_llava)
    assert [name for name, p in made.named_parameters() if p.requires_grad] == names
    assert all(torch.equal(p, kept[name]) for name, p in made.named_parameters())


def test_a_checkpoint_that_is_put_on_the_model_is_not_the_reference(tiny_llava: Path, tmp_path: Path) -> None:
    adapter = sft(tiny_llava, tmp_path)
    start = by_policy(module(tiny_llava, moved=False, adapter=adapter), tiny_llava)
    resumed = module(tiny_llava, moved=False, adapter=adapter)
    move(resumed, seed=9)
    assert all(map(torch.equal, by_reference(resumed, tiny_llava), start))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_dropout_is_off_unless_asked_for_and_never_in_the_reference(
    asked: bool, adapted: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    adapter = sft(tiny_llava, tmp_path) if adapted else None
    made = module(tiny_llava, adapter=adapter, lora_dropout=0.5, dropout=asked)
    made.train()
    (batch,) = step(tiny_llava, preferences()).micro_batches

    def twice() -> tuple[list[Tensor], list[Tensor]]:
        torch.manual_seed(1)
        pairs = made.log_probs(batch)
        torch.manual_seed(2)
        again = made.log_probs(batch)
        assert pairs.reference_chosen is not None
        assert again.reference_chosen is not None
        return [pairs.chosen, again.chosen], [pairs.reference_chosen, again.reference_chosen]

    policy, reference = twice()
    assert torch.equal(*policy) is not asked
    assert torch.equal(*reference)
    assert made.training
    layers = [m for m in made.modules() if isinstance(m, torch.nn.Dropout)]
    assert any(layer.training for layer in layers) is asked
    # The layers themselves train: activations are recomputed in training alone.
    assert made.base.get_submodule("model.language_model").training
