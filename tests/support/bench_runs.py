"""Runs of a benchmark as its side wrote them down, for tests of what is made of them."""

from __future__ import annotations

from typing import Any


def run_of(side: str, speed: float, above: int, losses: list[float]) -> dict[str, Any]:
    """A run as `Bench.run` returns it."""
    return {
        "side": side,
        "micro_batch": 1,
        "samples_per_second": speed,
        "processor_seconds_per_sample": 1.6 / speed,
        "above_bytes": above,
        "losses": losses,
    }
