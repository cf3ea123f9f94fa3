"""Tests of equality 9 and its kin: a preference run equals two plain models, and its reference never drifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support.pair_cases import BETA, module, preferences, step
from tests.support.tiny_families.catalogue import TINY
from tests.support.whole_precision import WholePrecision
from vlm_lit.models.attention import unpackable
from vlm_lit.schema import IGNORE_INDEX, Conversation, Preference, TokenBatch


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
