"""Tests of preference losses: values and gradients equal their formulas, written out for one pair of numbers."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, get_args

import pytest
import torch
from torch import Tensor

from vlm_lit.errors import ConfigError
from vlm_lit.objectives.preference_losses import (
    LOSSES,
    PairLogProbs,
    PreferenceLossName,
    PreferenceLossSettings,
    needs_corrupted,
    needs_reference,
    preference_loss,
)


class Pair(NamedTuple):
    """pi(w), pi(l), pi(k), rho(w), rho(l), rho(k), |w| and |l| of one pair; k is w behind a corrupted picture."""

    won: complex
    lost: complex
    corrupted: complex
    ref_won: complex
    ref_lost: complex
    ref_corrupted: complex
    n_won: int
    n_lost: int

    @property
    def delta(self) -> complex:
        return (self.won - self.ref_won) - (self.lost - self.ref_lost)

    @property
    def delta_of_means(self) -> complex:
        return (self.won - self.ref_won) / self.n_won - (self.lost - self.ref_lost) / self.n_lost


BETA, SMOOTHED, GAMMA = 0.3, 0.2, 0.7


def sigma(x: complex) -> complex:
    return 1 / (1 + cmath.exp(-x))


def log_odds(log_p: complex) -> complex:
    return cmath.log(cmath.exp(log_p) / (1 - cmath.exp(log_p)))


def relu(x: complex) -> complex:
    return x if x.real > 0 else 0


WRITTEN_OUT: Final[Mapping[str, Callable[[Pair], complex]]] = {
    "sigmoid": lambda p: -cmath.log(sigma(BETA * p.delta)),
    "sigmoid_norm": lambda p: -cmath.log(sigma(BETA * p.delta_of_means)),
    "ipo": lambda p: (p.delta_of_means - 1 / (2 * BETA)) ** 2,
    "hinge": lambda p: relu(1 - BETA * p.delta),
    "robust": lambda p: (
        ((1 - SMOOTHED) * -cmath.log(sigma(BETA * p.delta)) - SMOOTHED * -cmath.log(sigma(-BETA * p.delta)))
        / (1 - 2 * SMOOTHED)
    ),
    "apo_zero": lambda p: (1 - sigma(BETA * (p.won - p.ref_won))) + sigma(BETA * (p.lost - p.ref_lost)),
    "apo_down": lambda p: sigma(BETA * (p.won - p.ref_won)) + (1 - sigma(BETA * p.delta)),
    "bco_pair": lambda p: (
        -cmath.log(sigma(BETA * (p.won - p.ref_won))) - cmath.log(sigma(-BETA * (p.lost - p.ref_lost)))
    ),
    "image_sigmoid": lambda p: -cmath.log(sigma(BETA * ((p.won - p.ref_won) - (p.corrupted - p.ref_corrupted)))),
    "anchor": lambda p: -cmath.log(sigma(BETA * (p.won - p.ref_won))),
    "simpo": lambda p: -cmath.log(sigma(BETA * (p.won / p.n_won - p.lost / p.n_lost) - GAMMA)),
    "orpo": lambda p: (
        -p.won / p.n_won - BETA * cmath.log(sigma(log_odds(p.won / p.n_won) - log_odds(p.lost / p.n_lost)))
    ),
    "sft": lambda p: -p.won / p.n_won,
}

# The reference agrees, disagrees, is equal; a hinge on each side of its corner.
PAIRS = [
    Pair(-3.0, -7.5, -4.5, -3.5, -6.0, -3.75, 4, 9),
    Pair(-12.25, -2.0, -11.0, -10.0, -2.5, -12.5, 11, 1),
    Pair(-5.0, -6.0, -5.0, -5.0, -6.0, -5.0, 3, 3),
    Pair(-0.5, -30.0, -2.0, -1.5, -20.0, -1.0, 2, 25),
    Pair(-40.0, -3.0, -60.0, -39.0, -8.0, -41.0, 31, 2),
]


def settings(name: str) -> PreferenceLossSettings:
    return PreferenceLossSettings(
        name=name,  # type: ignore[arg-type]
        beta=0.1 if name == "sft" else BETA,
        label_smoothing=SMOOTHED if name == "robust" else 0.0,
        gamma=GAMMA if name == "simpo" else None,
    )


def pairs(
    dtype: torch.dtype = torch.float64, *, reference: bool = True, corrupted: bool = True
) -> tuple[PairLogProbs, list[Tensor]]:
    columns = [torch.tensor([pair[k] for pair in PAIRS], dtype=dtype) for k in range(6)]
    lengths = [torch.tensor([pair[k] for pair in PAIRS]) for k in (6, 7)]
    policy = [column.requires_grad_() for column in columns[:3]]
    return PairLogProbs(
        chosen=policy[0],
        rejected=policy[1],
        chosen_lengths=lengths[0],
        rejected_lengths=lengths[1],
        reference_chosen=columns[3] if reference else None,
        reference_rejected=columns[4] if reference else None,
        corrupted=policy[2] if corrupted else None,
        reference_corrupted=columns[5] if corrupted and reference else None,
    ), policy


def moved(pair: Pair, k: int) -> Pair:
    changed: dict[str, Any] = {Pair._fields[k]: pair[k] + 1e-30j}
    return pair._replace(**changed)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_equal_the_formula(name: str) -> None:
    given, policy = pairs()
    loss = preference_loss([settings(name)], given)
    formula = WRITTEN_OUT[name]
    expected = [formula(pair).real for pair in PAIRS]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(loss.sum(), policy, allow_unused=True)
    for k, gradient in enumerate(gradients):
        # A step along the imaginary axis has a derivative's digits all.
        steps = [moved(pair, k) for pair in PAIRS]
        slopes = torch.tensor([formula(step).imag / 1e-30 for step in steps], dtype=torch.float64)
        found = torch.zeros_like(slopes) if gradient is None else gradient
        torch.testing.assert_close(found, slopes, rtol=1e-10, atol=1e-10)


def test_every_loss_has_a_name_and_a_formula_to_compare_with() -> None:
    assert tuple(LOSSES) == get_args(PreferenceLossName)
    assert WRITTEN_OUT.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_the_table_says_what_a_loss_looks_at(name: str) -> None:
    """Without what it says it does not need, a loss is the same; and with another of what it needs, it is another."""
    kind, (given, _) = LOSSES[name], pairs()
    loss = kind.formula(given, settings(name))
    alone, _ = pairs(reference=False)
    if kind.needs_reference:
        with pytest.raises(AssertionError):
            kind.formula(alone, settings(name))
    else:
        torch.testing.assert_close(kind.formula(alone, settings(name)), loss, rtol=0, atol=0)
    own, _ = pairs(corrupted=False)
    if kind.needs_corrupted:
        with pytest.raises(AssertionError):
            kind.formula(own, settings(name))
    else:
        torch.testing.assert_close(kind.formula(own, settings(name)), loss, rtol=0, atol=0)
    longer = PairLogProbs(**{**vars(given), "chosen_lengths": given.chosen_lengths + 1})
    assert torch.equal(kind.formula(longer, settings(name)), loss) is not kind.needs_lengths
    assert needs_reference([settings("sft"), settings(name)]) is kind.needs_reference
    assert needs_corrupted([settings("sft"), settings(name)]) is kind.needs_corrupted


def test_a_list_is_the_weighted_sum() -> None:
    given, policy = pairs()
    mpo = [
        PreferenceLossSettings(name="sigmoid", weight=0.8),
        PreferenceLossSettings(name="bco_pair", weight=0.2),
        PreferenceLossSettings(name="sft"),
    ]
    whole = preference_loss(mpo, given)
    parts = [0.8 * LOSSES["sigmoid"].formula(given, mpo[0]), 0.2 * LOSSES["bco_pair"].formula(given, mpo[1])]
    torch.testing.assert_close(whole, parts[0] + parts[1] + LOSSES["sft"].formula(given, mpo[2]), rtol=1e-14, atol=0)
    assert all(gradient.abs().min() > 0 for gradient in torch.autograd.grad(whole.sum(), policy[:2]))


@pytest.mark.parametrize("name", LOSSES)
def test_certain_and_impossible_answers_have_a_finite_loss_in_float32(name: str) -> None:
    ends = torch.tensor([0.0, -3000.0, 0.0, -3000.0], requires_grad=True)
    given = PairLogProbs(
        chosen=ends,
        rejected=ends.flip(0),
        chosen_lengths=torch.tensor([1, 9, 0, 2]),
        rejected_lengths=torch.tensor([3, 1, 2, 0]),
        reference_chosen=torch.tensor([-3000.0, 0.0, 0.0, -1.0]),
        reference_rejected=torch.tensor([0.0, 0.0, -3000.0, -1.0]),
        corrupted=ends.roll(1),
        reference_corrupted=torch.tensor([0.0, 0.0, -3000.0, -1.0]),
    )
    loss = preference_loss([settings(name)], given)
    (gradient,) = torch.autograd.grad(loss.sum(), [ends])
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "dpo"}, "no preference loss 'dpo'. There are: sigmoid"),
        ({"weight": 0.0}, "weight of the loss sigmoid is 0.0"),
        ({"beta": -0.1}, "beta of the loss sigmoid is -0.1"),
        ({"beta": float("nan")}, "beta of the loss sigmoid is nan"),
        ({"label_smoothing": 0.1}, "label_smoothing acts in the loss robust alone"),
        ({"name": "robust", "label_smoothing": 0.5}, "from 0 to below 0.5"),
        ({"gamma": 1.0}, "gamma acts in the loss simpo alone"),
        ({"name": "sft", "beta": 0.5}, "beta is 0.5, and the loss sft has none"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PreferenceLossSettings(**wrong)  # type: ignore[arg-type]
