"""Figures of pairs that tell how a preference run goes, under the names that TRL logs them by."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vlm_lit.objectives.preference_losses import LOSSES, PairLogProbs, PreferenceLossSettings, needs_corrupted
from vlm_lit.training.ranks import Ranks

FIGURES: Final[Mapping[str, Literal["min", "max"] | None]] = {
    "rewards/chosen": None,
    "rewards/rejected": None,
    "rewards/accuracies": "max",
    "rewards/margins": "max",
    "logps/chosen": None,
    "logps/rejected": None,
    "lengths/chosen": None,
    "lengths/rejected": None,
    "kl": None,
}
"""What is logged of pairs, and what is better of it."""

IMAGE_FIGURES: Final[Mapping[str, Literal["min", "max"] | None]] = {
    "rewards/corrupted": None,
    "rewards/image_accuracies": "max",
    "rewards/image_margins": "max",
    "logps/corrupted": None,
}
"""What is logged besides of the chosen answer behind a corrupted picture."""

_STEPS: Final = 20


class PairFigures:
    """Means over pairs, of all micro-batches and ranks since they were last asked for.

    A reward is beta times how much likelier an answer is than by the reference; without a reference, beta times the
    mean log-probability of its tokens. Beta is that of the first loss that compares with a reference, else of the first
    that has one. `kl` is the mean of the log-ratios of both answers: an estimate of the divergence from the reference
    on the answers of the data, which are not samples of the model; it may be negative. Where a loss looks at the chosen
    answer behind a corrupted picture, its reward is compared with that behind its own picture as well.

    Args:
        losses: the run's losses.
    """

    def __init__(self, losses: Sequence[PreferenceLossSettings]) -> None:
        compared = [loss for loss in losses if LOSSES[loss.name].needs_reference]
        steep = [loss for loss in losses if loss.name != "sft"]  # which has no beta
        self.beta, self.has_reference = (compared or steep or losses)[0].beta, bool(compared)
        self.names = [name for name in FIGURES if self.has_reference or name != "kl"]
        self.names += IMAGE_FIGURES if needs_corrupted(losses) else ()
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._sums: list[list[float]] = []
        self._pairs = 0

    def mark(self) -> tuple[int, int]:
        """How far it has come, to go back to."""
        return len(self._sums), self._pairs

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget what came since a mark."""
        batches, self._pairs = mark
        del self._sums[batches:]

    def add(self, pairs: PairLogProbs) -> None:
        """Take in a micro-batch of pairs."""
        with torch.no_grad():
            self._sums.append(torch.stack([value.double().sum() for value in self._values(pairs)]).tolist())
        self._pairs += len(pairs.chosen)

    def _values(self, pairs: PairLogProbs) -> list[Tensor]:
        """Each figure of each pair [P], in the order of the names."""
        chosen, rejected = (
            (pairs.chosen_ratio, pairs.rejected_ratio)
            if self.has_reference
            else (pairs.chosen_mean, pairs.rejected_mean)
        )
        rewards = self.beta * chosen, self.beta * rejected
        figures = [*rewards, rewards[0] > rewards[1], rewards[0] - rewards[1], pairs.chosen, pairs.rejected]
        figures += [pairs.chosen_lengths, pairs.rejected_lengths]
        figures += [(chosen + rejected) / 2] if self.has_reference else []
        if pairs.corrupted is not None:
            corrupted = self.beta * pairs.corrupted_ratio
            figures += [corrupted, rewards[0] > corrupted, rewards[0] - corrupted, pairs.corrupted]
        return figures

    def finish(self, ranks: Ranks) -> dict[str, float]:
        """The means, and a new beginning; nothing where there was no pair. Every rank has to ask, and gets the same."""
        sums = [math.fsum(column) for column in zip(*self._sums, strict=True)]
        sums += [0.0] * (len(self.names) - len(sums))
        total = ranks.sum(self._pairs)
        means = [ranks.sum(value) / max(total, 1) for value in sums]
        self.forget()
        return dict(zip(self.names, means, strict=True)) if total else {}


class ChosenWatch:
    """Says once where the chosen answers have become less likely than they were at the start while margins rise.

    Args:
        sft: whether the run's losses have one that keeps them likely already.
        steps: how many are looked at together.
    """

    def __init__(self, steps: int = _STEPS, *, sft: bool = False) -> None:
        self._remedy = "Raise the weight of {name: sft} in" if sft else "Add {name: sft} to"
        self._seen: deque[tuple[float, float]] = deque(maxlen=steps)
        self._said = False

    def see(self, figures: Mapping[str, float]) -> None:
        """Look at a step's figures: a chosen reward below 0 is a log-probability below that of the reference."""
        self._seen.append((figures["rewards/chosen"], figures["rewards/margins"]))
        if self._said or len(self._seen) < (self._seen.maxlen or 0):
            return
        chosen, margins = (fmean(column) for column in zip(*self._seen, strict=True))
        if chosen < 0 < margins:
            self._said = True
            rank_zero_warn(
                f"Over the last {len(self._seen)} steps the chosen answers are less likely than at the start of the "
                f"run (rewards/chosen {chosen:.3g}) while margins rise (rewards/margins {margins:.3g}): the model "
                f"learns to say neither answer. {self._remedy} model.init_args.losses, or lower the learning rate."
            )
