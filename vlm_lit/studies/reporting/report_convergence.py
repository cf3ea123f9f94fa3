"""Convergence of a setting's runs: their final training loss, and the time to a target loss."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlm_lit.studies.run_files.learning_curves import LOSS, Curve, Reached, first_at, smoothed, smoothing_window


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """Means over a setting's seeds: the loss they end at, and the steps and seconds to the target loss.

    `steps` and `seconds` are over the `reached` of `seeds` runs that came down to it, None where none did.
    """

    final_loss: float
    steps: float | None
    seconds: float | None
    reached: int
    seeds: int

    @property
    def is_reached(self) -> bool:
        """Whether every seed came down to the target."""
        return self.reached == self.seeds


def target_loss(runs: Sequence[Mapping[str, Curve]]) -> float | None:
    """The loss that the worst run ends at, so that every run gets there; None where nothing was trained."""
    losses = _losses(runs)
    window = smoothing_window(losses)
    return max((smoothed(curve, window).values[-1] for curve in losses), default=None)


def convergence(runs: Sequence[Mapping[str, Curve]], target: float, *, window: int) -> Convergence | None:
    """What a setting's runs say; None where they trained nothing.

    Args:
        runs: the curves of each seed.
        target: the loss whose reaching is timed.
        window: logged points to average over.
    """
    losses = [smoothed(curve, window) for curve in _losses(runs)]
    if not losses:
        return None
    times = [found for curve in losses if (found := first_at(curve, target)) is not None]
    return Convergence(
        final_loss=statistics.fmean(curve.values[-1] for curve in losses),
        steps=_mean(times, "steps"),
        seconds=_mean(times, "seconds"),
        reached=len(times),
        seeds=len(losses),
    )


def _losses(runs: Sequence[Mapping[str, Curve]]) -> list[Curve]:
    return [curves[LOSS] for curves in runs if LOSS in curves]


def loss_window(runs: Sequence[Mapping[str, Curve]]) -> int:
    """Logged points that every loss of the study is averaged over."""
    return smoothing_window(_losses(runs))


def _mean(times: Sequence[Reached], name: str) -> float | None:
    return statistics.fmean(getattr(time, name) for time in times) if times else None
