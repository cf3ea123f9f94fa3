"""TensorBoard files of runs, with the times set by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

Points = Sequence[tuple[int, float, float]]


def write_events(folder: Path, tags: Mapping[str, Points], *, began: float = 1_000_000.0, suffix: str = "") -> None:
    """One file of scalars: for each name its points of (step as Lightning counts it, seconds after `began`, value)."""
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for name, points in tags.items():
            for step, seconds, value in points:
                writer.add_scalar(name, value, step, walltime=began + seconds)
