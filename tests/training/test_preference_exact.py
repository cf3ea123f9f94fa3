"""Tests of equality 9 and its kin: a preference run equals two plain models, and its reference never drifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from tests.support.whole_precision import WholePrecision
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.pairs import PairBatch, PairCollator
from vlm_lit.models.adapters import LoraSettings
from vlm_lit.models.attention import unpackable
from vlm_lit.objectives.preference_losses import PreferenceLossSettings
from vlm_lit.schema import IGNORE_INDEX, IMAGE, Conversation, Preference, StepBatch, TokenBatch, Turn
from vlm_lit.training.preference import PreferenceModule

BETA = 0.4
LOSSES: Final = [
    PreferenceLossSettings(name="sigmoid", weight=0.8, beta=BETA),
    PreferenceLossSettings(name="ipo", weight=0.2, beta=BETA),
    PreferenceLossSettings(name="sft", weight=0.3),
]
QUESTIONS: Final = ("what is it?", "what is it, and where is it?", "and how many are there?")
ANSWERS: Final = (("red", "no, blue and green"), ("it is yellow there", "no"), ("two", "two tools"))


def preferences(pictures: int = 2) -> list[Preference]:
    """Three pairs about each of some pictures."""
    made = []
    for seed in range(pictures):
        (first, *_) = cases.about_one_picture(1, seed)
        for question, answers in zip(QUESTIONS, ANSWERS, strict=True):
            name = f"{seed} {question}"
            asked = Turn(role="user", content=(IMAGE, question))
            sides = [
                replace(first, id=name, turns=(asked, Turn(role="assistant", content=(said,)))) for said in answers
            ]
            made.append(Preference(id=name, images=first.images, chosen=sides[0], rejected=sides[1]))
    return made


def module(folder: Path, *, moved: bool = True, adapter: Path | None = None, dropout: float = 0.0) -> PreferenceModule:
    """The adapted model in float32, LoRA and the projector in full, its trained weights moved off their start."""
    fp32 = cases.PartSettings(precision="fp32", training="lora")
    made = PreferenceModule(
        str(folder),
        losses=LOSSES,
        parts=cases.parts(language_model=fp32),
        lora=LoraSettings(dropout=dropout, targets=["attention", "mlp"]),
        activation_checkpointing=False,
        adapter=None if adapter is None else str(adapter),
    )
    made.configure_model()
    if moved:
        move(made)
    return made


def move(made: PreferenceModule, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def step(folder: Path, pairs: Sequence[Preference], *, rows: int = 8, packing: bool = True) -> StepBatch[PairBatch]:
    encoder = cases.encoder(folder)
    policy = OverLengthPolicy(encoder, None, "error")
    return PairCollator(StepCollator(encoder, policy, rows, packing=packing)).collate(pairs)


def doubled(batch: TokenBatch) -> TokenBatch:
    return replace(batch, inputs={n: v.double() if v.is_floating_point() else v for n, v in batch.inputs.items()})


def plain_log_prob(model: nn.Module, folder: Path, talk: Conversation) -> tuple[Tensor, int]:
    """An answer's log-probability from all logits of its own unpadded row, and its tokens."""
    row = doubled(cases.encode(cases.encoder(folder), [talk]))
    log_probs = model(**row.inputs).logits[0, :-1].double().log_softmax(-1)
    targets = row.labels[0, 1:]
    said = targets != IGNORE_INDEX
    return log_probs[said].gather(1, targets[said, None]).sum(), int(said.sum())


def plain_loss(policy: nn.Module, reference: nn.Module, folder: Path, pairs: Sequence[Preference]) -> Tensor:
    """The mean loss over pairs, written out, two answers and two models apart."""
    losses = []
    for pair in pairs:
        sides = pair.chosen, pair.rejected
        (won, n_won), (lost, n_lost) = (plain_log_prob(policy, folder, side) for side in sides)
        with torch.no_grad():
            (ref_won, _), (ref_lost, _) = (plain_log_prob(reference, folder, side) for side in sides)
        sigmoid = -torch.log(1 / (1 + torch.exp(-BETA * ((won - ref_won) - (lost - ref_lost)))))
        ipo = ((won - ref_won) / n_won - (lost - ref_lost) / n_lost - 1 / (2 * BETA)) ** 2
        losses.append(0.8 * sigmoid + 0.2 * ipo + 0.3 * -won / n_won)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("family", TINY)
def test_loss_and_gradients_equal_two_plain_models(family: str, folders: dict[str, Path]) -> None:
    folder, pairs = folders[family], preferences()
    ours = module(folder).double()
    reference = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64).eval()
    packs = unpackable(ours.base, ours.family) is None
    made = step(folder, pairs, packing=packs)
    assert all((batch.segments is not None) == packs for batch in made.micro_batches)
    with WholePrecision():
        loss = torch.stack([ours.loss(doubled(batch)) for batch in made.micro_batches]).sum() / made.weight
        expected = plain_loss(ours.base, reference, folder, pairs)
    names, parameters = zip(*((n, p) for n, p in ours.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for name, one, other in zip(names, found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
