"""Tests of equality 9 and its kin: a preference run equals two plain models, and its reference never drifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.support.pair_cases import BETA, module, preferences, step
from tests.support.plain_pairs import assert_equal_to_plain, doubled, plain_log_prob
from tests.support.tiny_families.catalogue import TINY
from tests.support.whole_precision import WholePrecision
from vlm_lit.schema import Preference
from vlm_lit.training.ranks import Ranks


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


@pytest.mark.parametrize("packing", [True, False])
def test_equality_4_the_result_does_not_depend_on_the_micro_batch(packing: bool, tiny_llava: Path) -> None:
    ours, pairs = module(tiny_llava).double(), preferences()
    parameters = ours.trainable_parameters()
    found = []
    for rows in (1, 2, 8):
        made = step(tiny_llava, pairs, rows=rows, packing=packing)
        assert made.weight == len(pairs) == sum(batch.weight for batch in made.micro_batches)
        with WholePrecision():
            parts = [ours.loss(doubled(batch)) / made.weight for batch in made.micro_batches]
        whole = torch.stack(parts).sum()
        found.append((len(parts), float(whole.detach()), torch.autograd.grad(whole, parameters)))
    assert [count for count, _, _ in found] == ([2, 1, 1] if packing else [6, 6, 2])
    for _, loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-12)
        torch.testing.assert_close(gradients, found[0][2], rtol=1e-10, atol=1e-12)


def test_figures_are_those_of_the_plain_models(tiny_llava: Path) -> None:
    ours, pairs = module(tiny_llava).double(), preferences()
    reference = AutoModelForImageTextToText.from_pretrained(tiny_llava, dtype=torch.float64).eval()
    made = step(tiny_llava, pairs, rows=1)
    with WholePrecision(), torch.no_grad():
        for batch in made.micro_batches:
            ours.loss(doubled(batch))
        apart = [
            [
                (float(plain_log_prob(ours.base, tiny_llava, side)[0]), *plain_log_prob(reference, tiny_llava, side))
                for side in (pair.chosen, pair.rejected)
            ]
            for pair in pairs
        ]
    chosen, rejected = ([(p, n, float(r)) for p, r, n in column] for column in zip(*apart, strict=True))
    rewards = [[BETA * (p - r) for p, _, r in side] for side in (chosen, rejected)]
    expected = {
        "rewards/chosen": fmean(rewards[0]),
        "rewards/rejected": fmean(rewards[1]),
        "rewards/accuracies": fmean(won > lost for won, lost in zip(*rewards, strict=True)),
        "rewards/margins": fmean(rewards[0]) - fmean(rewards[1]),
        "logps/chosen": fmean(p for p, _, _ in chosen),
        "logps/rejected": fmean(p for p, _, _ in rejected),
        "lengths/chosen": fmean(n for _, n, _ in chosen),
        "lengths/rejected": fmean(n for _, n, _ in rejected),
        "kl": (fmean(rewards[0]) + fmean(rewards[1])) / 2 / BETA,
    }
    assert ours.figures.finish(Ranks()) == pytest.approx(expected, rel=1e-9)
    assert ours.figures.finish(Ranks()) == {}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("family", TINY)
def test_loss_and_gradients_equal_two_plain_models(family: str, folders: dict[str, Path]) -> None:
    assert_equal_to_plain(folders[family], module(folders[family]).double(), plain_loss)
