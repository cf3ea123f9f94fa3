"""Seeded draws inside a forward pass that leave the run's own random numbers where they were.

ViLT puts the patches of a batch's largest picture in a random order, and fills up the smaller ones with random masked
patches, by the global generator and in evaluation as well (`visual_embed` in transformers and in the original).
Positions travel with the patches, so the draw is no part of the result but for rounding. Left alone it would still move
every later random number of the process: a run with another number of evaluations would be another run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_patches(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Random numbers from `seed` within; those of outside go on as if nothing was drawn.

    Args:
        seed: what the draws follow from.
        device: the model's, whose generator is kept as well; None or a CPU for the CPU's alone.
    """
    others = [device] if device is not None and device.type != "cpu" else []
    kind = device.type if device is not None and others else "cuda"
    with torch.random.fork_rng(devices=others, device_type=kind):
        torch.manual_seed(seed)
        yield
