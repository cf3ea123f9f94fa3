"""Comparison of the runs of a benchmark's sides: figures of each, ratios of neighbours, and both in words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from workloads import Workload

Run = dict[str, Any]


def figures(measured: dict[str, Any], workload: Workload) -> Run:
    """Samples a second and memory above the loaded model, from a side's raw measurements.

    The first step warms up, unless the whole course is what is asked for.
    """
    ends, work, first = measured["ends"], measured["work"], 0 if workload.whole_course else 1
    samples = workload.batch * (len(ends) - 1 - first)
    return {
        "samples_per_second": samples / (ends[-1] - ends[first]),
        "processor_seconds_per_sample": (work[-1] - work[first]) / samples,
        "seconds": _steps(ends),
        "processor_seconds": _steps(work),
        "loaded_bytes": measured["loaded"],
        "above_bytes": measured["peak"] - measured["loaded"],
        "tensor_bytes": measured["tensors"],
        "losses": measured["losses"],
        "data_wait_shares": measured["waits"],
        "ids": measured["ids"],
    }


def _steps(clock: Sequence[float]) -> list[float]:
    return [round(end - begin, 4) for begin, end in pairwise(clock)]


def comparison(runs: Sequence[Run], counted: Mapping[str, int], opponent: str, own: str = "ours") -> Run:
    """Ratios of neighbouring runs of ours and the opponent's, and how far apart their losses are.

    Args:
        runs: all runs in the order they were made, each side equally often.
        counted: the most bytes of each side's tensors at once, beyond the loaded model's; empty where not counted.
        opponent: the other side.
        own: which side of ours, where there are several.
    """
    pairs = list(zip([r for r in runs if r["side"] == own], [r for r in runs if r["side"] == opponent], strict=True))
    speed = [ours["samples_per_second"] / theirs["samples_per_second"] for ours, theirs in pairs]
    work = [theirs["processor_seconds_per_sample"] / ours["processor_seconds_per_sample"] for ours, theirs in pairs]
    resident = [ours["above_bytes"] / theirs["above_bytes"] for ours, theirs in pairs]
    apart = [
        abs(a - b) / abs(b)
        for ours, theirs in pairs
        for a, b in zip(ours["losses"], theirs["losses"], strict=True)
    ]  # fmt: skip
    return {
        "own": own,
        "opponent": opponent,
        "speed_ratios": speed,
        "speed_ratio": statistics.median(speed),
        "processor_ratios": work,
        "processor_ratio": statistics.median(work),
        "memory_ratio": counted[own] / counted[opponent] if counted else None,
        "resident_ratios": resident,
        "resident_ratio": statistics.median(resident),
        "largest_relative_loss_difference": max(apart),
    }


def line(run: Run) -> str:
    """A run in words."""
    return (
        f"{run['side']:>20} x{run['micro_batch']:<3} {run['samples_per_second']:7.2f} samples/s, "
        f"{sum(run['processor_seconds'][1:]):.1f} s of processor, "
        f"{run['above_bytes'] / 2**20:6.0f} MiB above the loaded model, losses "
        + " ".join(f"{loss:.5f}" for loss in run["losses"])
    )


def verdict(found: Run) -> str:
    """A comparison in words."""
    tensors = "" if found["memory_ratio"] is None else f"{found['memory_ratio']:.2f}x its tensors and "
    return (
        f"{found['own']}: {found['speed_ratio']:.2f}x the speed of {found['opponent']}, "
        f"{found['processor_ratio']:.2f}x by processor time, above the model {tensors}"
        f"{found['resident_ratio']:.2f}x what was resident, losses within "
        f"{found['largest_relative_loss_difference']:.1e}"
    )


def with_result(kept: Sequence[Run], result: Run) -> list[Run]:
    """Results of all workloads, a new one in the place of the one before it with the same micro-batches."""
    places = {_place(one): one for one in kept}
    return list({**places, _place(result): result}.values())


def _place(result: Run) -> tuple[str, tuple[int, ...]]:
    """What a result is filed under: the workload and the micro-batch of each side in the order of the runs."""
    rows = {run["side"]: run["micro_batch"] for run in result["runs"]}
    return result["workload"]["name"], tuple(rows.values())


def rows_of(result: Run, side: str) -> int:
    """The micro-batch that a side took."""
    found: int = next(run["micro_batch"] for run in result["runs"] if run["side"] == side)
    return found
