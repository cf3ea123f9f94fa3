"""Losses of preference optimization: from the log-probabilities of two answers to a loss a pair.

A run's loss is a list of them with weights, so that a recipe such as MPO (0.8 sigmoid + 0.2 bco_pair + 1.0 sft) is a
list in a config. Names and values are TRL's (`DPOTrainer`, and `CPOTrainer` for simpo, `ORPOTrainer` for orpo), but:

- every loss is a pair's own, and a step's is the mean over its pairs. In TRL `sft`, and `orpo`'s likelihood, are means
  over the tokens of a micro-batch, and depend on how a step is cut: here they are the mean over the pair's chosen
  answer. The two are equal where a micro-batch is one pair.
- `orpo`'s likelihood is the answer's. TRL's counts the prompt's tokens as well, which for pictures have no words.

In `bco_pair` the rewards are compared with zero, as TRL does; InternVL keeps a running mean of them to compare with.

mDPO (arXiv 2406.11839) is [sigmoid, image_sigmoid, anchor] with one beta. `image_sigmoid` is its conditional term: the
chosen answer behind its own picture is preferred to the same answer behind a corrupted one. `anchor` is its term that
keeps the chosen answer's reward above zero.

P = pairs. w is the chosen (won), l the rejected (lost) answer, k the chosen answer behind a corrupted picture, pi the
policy's log-probability of an answer, rho the reference's, both summed over tokens, and |y| an answer's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_lit.errors import ConfigError

PreferenceLossName = Literal[
    "sigmoid",
    "sigmoid_norm",
    "ipo",
    "hinge",
    "robust",
    "apo_zero",
    "apo_down",
    "bco_pair",
    "image_sigmoid",
    "anchor",
    "simpo",
    "orpo",
    "sft",
]

SIMPO_GAMMA: Final = 0.5
_BETA: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class PreferenceLossSettings:
    """One of the losses that a run's is the weighted sum of.

    Args:
        name: sigmoid (DPO), sigmoid_norm, ipo, hinge, robust, apo_zero, apo_down, bco_pair, image_sigmoid and anchor
            compare with a reference; simpo, orpo and sft need none. image_sigmoid compares the chosen answer with
            itself behind a corrupted picture, which data.init_args.corrupt asks for.
        weight: what it is multiplied by.
        beta: how steep it is; of ipo the strength of its regularization, of orpo the weight of its odds ratio. sft has
            none.
        label_smoothing: of robust, the share of pairs whose sides are believed to be swapped, from 0 to below 0.5.
        gamma: of simpo, the margin of reward that is aimed at; null takes 0.5.
    """

    name: PreferenceLossName = "sigmoid"
    weight: float = 1.0
    beta: float = _BETA
    label_smoothing: float = 0.0
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise ConfigError(f"there is no preference loss {self.name!r}. There are: {', '.join(LOSSES)}.")
        for field, value in (("weight", self.weight), ("beta", self.beta)):
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{field} of the loss {self.name} is {value}; it must be above 0.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; it must be from 0 to below 0.5.")
        if self.name == "sft" and self.beta != _BETA:
            raise ConfigError(f"beta is {self.beta}, and the loss sft has none. Leave it out there, or set its weight.")
        if self.label_smoothing and self.name != "robust":
            raise ConfigError(f"label_smoothing acts in the loss robust alone, not in {self.name}. Leave it out there.")
        if self.gamma is not None and self.name != "simpo":
            raise ConfigError(f"gamma acts in the loss simpo alone, not in {self.name}. Leave it out there.")


@dataclass(frozen=True, kw_only=True)
class PairLogProbs:
    """Log-probabilities of P pairs of answers, each [P] and summed over tokens, and the answers' tokens [P].

    `corrupted` is the chosen answer's behind a corrupted picture. What no loss needs is None: the reference's, and
    those behind corrupted pictures.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    corrupted: Tensor | None = None
    reference_corrupted: Tensor | None = None

    @property
    def chosen_ratio(self) -> Tensor:
        """pi(w) - rho(w) [P]."""
        assert self.reference_chosen is not None
        return self.chosen - self.reference_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """pi(l) - rho(l) [P]."""
        assert self.reference_rejected is not None
        return self.rejected - self.reference_rejected

    @property
    def corrupted_ratio(self) -> Tensor:
        """pi(k) - rho(k) [P]."""
        assert self.corrupted is not None
        assert self.reference_corrupted is not None
        return self.corrupted - self.reference_corrupted

    @property
    def image_margin(self) -> Tensor:
        """The difference of the chosen answer's ratios behind its own picture and behind the corrupted one [P]."""
        return self.chosen_ratio - self.corrupted_ratio

    @property
    def margin(self) -> Tensor:
        """The difference of the two ratios [P]."""
        return self.chosen_ratio - self.rejected_ratio

    @property
    def mean_margin(self) -> Tensor:
        """The same with each ratio divided by its answer's tokens [P]."""
        return self.chosen_ratio / _count(self.chosen_lengths) - self.rejected_ratio / _count(self.rejected_lengths)

    @property
    def chosen_mean(self) -> Tensor:
        """pi(w) / |w| [P]."""
        return self.chosen / _count(self.chosen_lengths)

    @property
    def rejected_mean(self) -> Tensor:
        """pi(l) / |l| [P]."""
        return self.rejected / _count(self.rejected_lengths)


def _count(lengths: Tensor) -> Tensor:
    return lengths.clamp(min=1)


def preference_loss(losses: Sequence[PreferenceLossSettings], pairs: PairLogProbs) -> Tensor:
    """The weighted sum of the losses, for each pair [P]."""
    return torch.stack([loss.weight * LOSSES[loss.name].formula(pairs, loss) for loss in losses]).sum(0)


def needs_reference(losses: Sequence[PreferenceLossSettings]) -> bool:
    """Whether any of the losses compares with a reference."""
    return any(LOSSES[loss.name].needs_reference for loss in losses)


def needs_corrupted(losses: Sequence[PreferenceLossSettings]) -> bool:
    """Whether any of the losses looks at the chosen answer behind a corrupted picture."""
    return any(LOSSES[loss.name].needs_corrupted for loss in losses)


def _sigmoid(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return -F.logsigmoid(settings.beta * pairs.margin)


def _sigmoid_norm(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return -F.logsigmoid(settings.beta * pairs.mean_margin)


def _ipo(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return (pairs.mean_margin - 1 / (2 * settings.beta)) ** 2


def _hinge(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return torch.relu(1 - settings.beta * pairs.margin)


def _robust(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    reward, swapped = settings.beta * pairs.margin, settings.label_smoothing
    return (-(1 - swapped) * F.logsigmoid(reward) + swapped * F.logsigmoid(-reward)) / (1 - 2 * swapped)


def _apo_zero(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    won = torch.sigmoid(settings.beta * pairs.chosen_ratio)
    return 1 - won + torch.sigmoid(settings.beta * pairs.rejected_ratio)


def _apo_down(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return torch.sigmoid(settings.beta * pairs.chosen_ratio) + 1 - torch.sigmoid(settings.beta * pairs.margin)


def _bco_pair(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    won = F.logsigmoid(settings.beta * pairs.chosen_ratio)
    return -won - F.logsigmoid(-settings.beta * pairs.rejected_ratio)


def _image_sigmoid(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return -F.logsigmoid(settings.beta * pairs.image_margin)


def _anchor(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return -F.logsigmoid(settings.beta * pairs.chosen_ratio)


def _simpo(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    gamma = SIMPO_GAMMA if settings.gamma is None else settings.gamma
    return -F.logsigmoid(settings.beta * (pairs.chosen_mean - pairs.rejected_mean) - gamma)


def _orpo(pairs: PairLogProbs, settings: PreferenceLossSettings) -> Tensor:
    return -pairs.chosen_mean - settings.beta * F.logsigmoid(
        _log_odds(pairs.chosen_mean) - _log_odds(pairs.rejected_mean)
    )


def _log_odds(log_probs: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p below 0; of a certain answer it is finite."""
    below = log_probs.clamp(max=-torch.finfo(log_probs.dtype).eps)
    return below - torch.log(-torch.expm1(below))


def _sft(pairs: PairLogProbs, _settings: PreferenceLossSettings) -> Tensor:
    return -pairs.chosen_mean


@dataclass(frozen=True, kw_only=True)
class PairLoss:
    """A loss's formula, from log-probabilities to a loss a pair [P], and what of them it looks at."""

    formula: Callable[[PairLogProbs, PreferenceLossSettings], Tensor]
    needs_reference: bool
    needs_lengths: bool
    needs_corrupted: bool = False


LOSSES: Final[Mapping[str, PairLoss]] = {
    "sigmoid": PairLoss(formula=_sigmoid, needs_reference=True, needs_lengths=False),
    "sigmoid_norm": PairLoss(formula=_sigmoid_norm, needs_reference=True, needs_lengths=True),
    "ipo": PairLoss(formula=_ipo, needs_reference=True, needs_lengths=True),
    "hinge": PairLoss(formula=_hinge, needs_reference=True, needs_lengths=False),
    "robust": PairLoss(formula=_robust, needs_reference=True, needs_lengths=False),
    "apo_zero": PairLoss(formula=_apo_zero, needs_reference=True, needs_lengths=False),
    "apo_down": PairLoss(formula=_apo_down, needs_reference=True, needs_lengths=False),
    "bco_pair": PairLoss(formula=_bco_pair, needs_reference=True, needs_lengths=False),
    "image_sigmoid": PairLoss(formula=_image_sigmoid, needs_reference=True, needs_lengths=False, needs_corrupted=True),
    "anchor": PairLoss(formula=_anchor, needs_reference=True, needs_lengths=False),
    "simpo": PairLoss(formula=_simpo, needs_reference=False, needs_lengths=True),
    "orpo": PairLoss(formula=_orpo, needs_reference=False, needs_lengths=True),
    "sft": PairLoss(formula=_sft, needs_reference=False, needs_lengths=True),
}
