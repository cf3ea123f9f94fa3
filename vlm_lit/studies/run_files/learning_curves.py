"""Learning curves of a run, read from its TensorBoard files, smoothed, and laid over other seeds'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vlm_lit.curve_tags import logged_as
from vlm_lit.studies.estimates.bootstrap import Floats

LOSS: Final = "train/loss"
_SMOOTHED_OVER: Final = 10  # one part in so many of the shortest curve


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What was logged under one name: optimizer `steps` taken by then, training `seconds` since the first logged step
    (a break before a resumed run is left out), and the `values`. All [points]."""

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reached:
    """When a loss was first reached."""

    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Band:
    """Several seeds' curves at the steps that all of them logged: mean, lowest and highest. All [points]."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int


def read_curves(folder: Path) -> dict[str, Curve]:
    """Every scalar of the fits in a run directory, by name; empty where there was no fit.

    A resumed run writes a file of its own. Steps that it took again replace those of the file before.
    """
    found: dict[str, Curve] = {}
    events = [_events(path) for path in folder.glob("events.out.tfevents*")]
    fits = [tags for tags in events if LOSS in tags]
    for tags in sorted(fits, key=lambda tags: tags[LOSS].seconds[0]):
        found = _continued(found, tags)
    return found


def _events(path: Path) -> dict[str, Curve]:
    """One file's scalars, their `seconds` still the clock's."""
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    tags = {logged_as(tag): events.Scalars(tag) for tag in events.Tags()["scalars"]}
    return {
        name: Curve(
            steps=tuple(point.step + 1 for point in points),  # Lightning counts the first step as 0
            seconds=tuple(point.wall_time for point in points),
            values=tuple(point.value for point in points),
        )
        for name, points in tags.items()
    }


def _continued(before: Mapping[str, Curve], tags: Mapping[str, Curve]) -> dict[str, Curve]:
    first, began = tags[LOSS].steps[0], tags[LOSS].seconds[0]
    kept = {name: _until(curve, first) for name, curve in before.items()}
    passed = max((curve.seconds[-1] for curve in kept.values() if curve.steps), default=0.0)
    shifted = {
        name: replace(curve, seconds=tuple(passed + second - began for second in curve.seconds))
        for name, curve in tags.items()
    }
    joined = {name: _joined(kept.get(name), shifted.get(name)) for name in dict.fromkeys([*kept, *shifted])}
    return {name: curve for name, curve in joined.items() if curve.steps}


def _until(curve: Curve, step: int) -> Curve:
    n = sum(taken < step for taken in curve.steps)
    return Curve(steps=curve.steps[:n], seconds=curve.seconds[:n], values=curve.values[:n])


def _joined(first: Curve | None, second: Curve | None) -> Curve:
    parts = [part for part in (first, second) if part is not None]
    return Curve(
        steps=tuple(step for part in parts for step in part.steps),
        seconds=tuple(second for part in parts for second in part.seconds),
        values=tuple(value for part in parts for value in part.values),
    )


def smoothing_window(curves: Sequence[Curve]) -> int:
    """Points to average over, the same for all: a tenth of the shortest curve, at least one."""
    return max(1, min((len(curve.values) for curve in curves), default=1) // _SMOOTHED_OVER)


def smoothed(curve: Curve, window: int) -> Curve:
    """Each value averaged with those before it, `window` in all; begins where there are so many."""
    means = np.convolve(curve.values, np.full(window, 1 / window), mode="valid")
    return Curve(steps=curve.steps[window - 1 :], seconds=curve.seconds[window - 1 :], values=tuple(map(float, means)))


def first_at(curve: Curve, value: float) -> Reached | None:
    """When a curve first came down to `value`; None where it never did."""
    points = zip(curve.steps, curve.seconds, curve.values, strict=True)
    return next((Reached(steps=step, seconds=second) for step, second, found in points if found <= value), None)


def band(curves: Sequence[Curve]) -> Band:
    """Lay curves of the same course over each other."""
    shared = sorted(set(curves[0].steps).intersection(*(curve.steps for curve in curves[1:])))
    rows: Floats = np.array([[_at(curve)[step] for step in shared] for curve in curves])
    return Band(
        steps=tuple(shared),
        mean=tuple(map(float, rows.mean(axis=0))),
        low=tuple(map(float, rows.min(axis=0))),
        high=tuple(map(float, rows.max(axis=0))),
        seeds=len(curves),
    )


def _at(curve: Curve) -> dict[int, float]:
    return dict(zip(curve.steps, curve.values, strict=True))
