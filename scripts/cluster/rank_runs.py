"""Measured runs on one and two ranks with a thread each, and what the simulation is fitted to of them."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
import torch.distributed as dist
from safetensors import safe_open
from step_time import Machine, StepParts, Workload, step_parts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.multiprocessing.spawn import spawn

WARM_UP: Final = 2
"""Steps that are not counted: the first ones load libraries' kernels and fill caches."""

_SMALL: Final = 4096
_REPEATED: Final = 15


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """The steps of one run.

    Args:
        ranks: how many.
        conversations: of a step, over all ranks.
        seconds: of each step after the first ones.
        spread: mean of `train/rank_spread`; None on one rank.
    """

    ranks: int
    conversations: int
    seconds: tuple[float, ...]
    spread: float | None = None

    @property
    def typical(self) -> float:
        """The median step in seconds."""
        return median(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on one machine.

    Args:
        runs: on one rank with two numbers of conversations at least, and on two ranks.
        all_reduce: bytes and seconds of sums over two ranks, of two sizes.
        summed_bytes: gradients that ranks sum in a step.
        machine: what it is called.
    """

    runs: tuple[MeasuredRun, ...]
    all_reduce: tuple[tuple[float, float], ...]
    summed_bytes: float
    machine: str = ""

    @classmethod
    def read(cls, path: Path) -> Measured:
        """What a file holds."""
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(MeasuredRun(**{**run, "seconds": tuple(run["seconds"])}) for run in held["runs"])
        sums = tuple((float(size), float(seconds)) for size, seconds in held["all_reduce"])
        return cls(**{**held, "runs": runs, "all_reduce": sums})

    def write(self, path: Path) -> None:
        """Keep it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def of(self, ranks: int) -> list[MeasuredRun]:
        """The runs on so many ranks, that with most conversations first."""
        return sorted((r for r in self.runs if r.ranks == ranks), key=lambda run: -run.conversations)


def fitted(measured: Measured) -> tuple[Workload, Machine]:
    """The work of one rank alone, and the machine; neither has seen a run on two ranks.

    A step on one rank takes `fixed + each x conversations`, a sum over two ranks `2 x latency + bytes / link`.
    """
    runs = measured.of(1)
    each, fixed = _line([(run.conversations, run.typical) for run in runs])
    slope, start = _line(measured.all_reduce)
    link = 1 / slope if slope > 0 else math.inf
    work = Workload(
        conversations=runs[0].conversations,
        seconds_each=each,
        seconds_fixed=fixed,
        summed_bytes=measured.summed_bytes,
    )
    return work, Machine(devices=2**20, link=link, network=link, latency=start / 2)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and start of the line through the first and the last point by x; through zero if it would start below."""
    (x0, y0), (x1, y1) = min(points), max(points)
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else y1 / x1
    start = y1 - slope * x1
    return (slope, start) if start >= 0 and slope >= 0 else (y1 / x1, 0.0)


def predicted(measured: Measured, ranks: int, spread: float) -> StepParts:
    """The step of the largest one-rank run, shared by so many ranks."""
    work, machine = fitted(measured)
    share = Workload(**{**vars(work), "conversations": work.conversations / ranks})
    return step_parts(share, machine, ranks, spread)


# Measuring -----------------------------------------------------------------------------------------------------------


def measure(config: Path, conversations: int, steps: int, *, more: Sequence[str] = ()) -> Measured:
    """Train on one rank with all and with half of the conversations, and on two ranks; then time bare sums.

    Args:
        config: of the run.
        conversations: of a step.
        steps: of each run, beyond the first ones that are not counted.
        more: further options of `fit`.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for ranks, share in ((1, conversations), (1, conversations // 2), (2, conversations)):
            place = Path(folder) / f"{ranks} ranks, {share}"
            run_fit(config, place, ranks, share, steps + WARM_UP, more)
            runs.append(read_run(place, ranks, share))
        trained = trained_numbers(place / "adapter" / "adapter_model.safetensors") * 4
        sums = timed_sums([_SMALL, trained])
    return Measured(runs=tuple(runs), all_reduce=sums, summed_bytes=trained, machine=_called())


def run_fit(config: Path, place: Path, ranks: int, conversations: int, steps: int, more: Sequence[str]) -> None:
    """One run of so many steps, without validation."""
    words = [
        sys.executable, "-m", "vlm_lit", "fit", "--config", str(config), "--run_dir", str(place), *more,
        f"--trainer.max_steps={steps}", "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false", f"--trainer.devices={ranks}",
        f"--data.init_args.effective_batch={conversations}",
    ]  # fmt: skip
    strategy = ["--trainer.strategy=ddp"] if ranks > 1 else []
    subprocess.run([*words, *strategy], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def read_run(place: Path, ranks: int, conversations: int) -> MeasuredRun:
    """A run's steps from its event files."""
    events = EventAccumulator(str(place), size_guidance={"scalars": 0})
    events.Reload()
    rates = [event.value for event in events.Scalars("watch/samples_per_second")][WARM_UP:]
    spreads = [e.value for e in events.Scalars("watch/rank_spread")][WARM_UP:] if ranks > 1 else []
    return MeasuredRun(
        ranks=ranks,
        conversations=conversations,
        seconds=tuple(conversations / rate for rate in rates),
        spread=sum(spreads) / len(spreads) if spreads else None,
    )


def trained_numbers(adapter: Path) -> int:
    """How many numbers a saved adapter holds."""
    with safe_open(adapter, framework="pt") as held:
        return sum(math.prod(held.get_slice(name).get_shape()) for name in held.keys())  # noqa: SIM118 - no mapping


def timed_sums(sizes: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Bytes and median seconds of sums over two ranks."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        spawn(_sum_over_two, (list(sizes), file.name), nprocs=2)  # type: ignore[no-untyped-call]
        held = json.loads(Path(file.name).read_text(encoding="utf-8"))
    return tuple((size, seconds) for size, seconds in held)


def _sum_over_two(rank: int, sizes: list[int], file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}.rendezvous", rank=rank, world_size=2)
    found = []
    for size in sizes:
        held, seconds = torch.ones(size // 4), []
        for _ in range(_REPEATED):
            dist.barrier()
            begun = time.perf_counter()
            dist.all_reduce(held)
            seconds.append(time.perf_counter() - begun)
            held.fill_(1.0)
        found.append((size, median(seconds)))
    if rank == 0:
        Path(file).write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


def _called() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
