"""Step time against ranks, by arithmetic.

    work    = fixed + computing x (1 + uneven) + summing + gathering + agreeing
    step    = max(work, supply of data)

    summing     all-reduce of the trained gradients: 2 (N - 1) / N bytes over the slowest link as in a ring, and
                2 log2(N) latencies as in NCCL's double binary trees; behind the backward passes, so nothing hides it
    gathering   a frozen base that is split over ranks is gathered in each forward and each backward pass of a
                micro-batch: (N - 1) / N bytes each; `hidden` is the share of computing behind which that is done ahead
    agreeing    before each gathering of a layer the hosts tell each other which they need: gloo passes these words on
                from rank to rank, N - 1 times; hosts run ahead of their devices, so computing hides it
    uneven      how far the busiest rank is above the mean, padding included: drawn lengths in the package's own dealing

N = ranks.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from functools import cache
from statistics import mean
from typing import Final

from vlm_lit.data.dealing import Dealing, ItemCost

PASSES: Final = 2
"""Passes of a micro-batch that need the base whole: forward and backward. Recomputing is within the backward pass."""


_STEPS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices and what joins them; bytes a second are those that one device sends.

    Args:
        devices: of one machine.
        link: bytes a second between devices of a machine.
        network: bytes a second between machines.
        latency: seconds until a message's first byte is there.
        hop: seconds that a few bytes take from a host to the next one.
    """

    devices: int
    link: float
    network: float
    latency: float
    hop: float = 0.0

    def bandwidth(self, ranks: int) -> float:
        """Bytes a second of the slowest link between so many ranks."""
        return self.link if ranks <= self.devices else min(self.link, self.network)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One rank's share of a step.

    Args:
        conversations: how many it has.
        seconds_each: computing of one of them.
        seconds_fixed: what a step takes besides, however little it has to compute.
        summed_bytes: gradients of all that is trained.
        gathered_bytes: the frozen base, where it is split over ranks.
        gathered_layers: in how many layers.
        micro_batches: into how many its conversations are cut.
        hidden: share of computing behind which the base is gathered ahead.
        supply: conversations a second that a rank's workers make ready.
        cv: standard deviation of row lengths as a share of their mean.
    """

    conversations: float
    seconds_each: float
    seconds_fixed: float = 0.0
    summed_bytes: float = 0.0
    gathered_bytes: float = 0.0
    gathered_layers: int = 0
    micro_batches: int = 1
    hidden: float = 0.0
    supply: float = math.inf
    cv: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """What a step's seconds go to."""

    computing: float
    fixed: float
    uneven: float
    summing: float
    gathering: float
    agreeing: float
    data: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.computing + self.fixed + self.uneven + self.summing + self.gathering + self.agreeing + self.data

    @property
    def bottleneck(self) -> str:
        """The part besides computing that takes longest: what keeps ranks from being used in full."""
        return max(
            (part.name for part in fields(self) if part.name != "computing"), key=lambda n: float(getattr(self, n))
        )


def step_parts(work: Workload, machine: Machine, ranks: int, spread: float | None = None) -> StepParts:
    """The parts of a step on so many ranks.

    Args:
        work: one rank's share.
        machine: what it runs on.
        ranks: how many there are.
        spread: how far the busiest rank is above the mean, where `seconds_each` has padding in it; None deals some.
    """
    computing = work.conversations * work.seconds_each
    uneven = computing * (drawn_excess(ranks, work) if spread is None else spread)
    summing = all_reduce_seconds(work.summed_bytes, machine, ranks)
    gathers = PASSES * work.micro_batches * all_gather_seconds(work.gathered_bytes, machine, ranks)
    gathering = max(0.0, gathers - work.hidden * computing)
    words = PASSES * work.micro_batches * work.gathered_layers * (ranks - 1) * machine.hop
    agreeing = max(0.0, words - computing)
    busy = work.seconds_fixed + computing + uneven + summing + gathering + agreeing
    return StepParts(
        computing=computing,
        fixed=work.seconds_fixed,
        uneven=uneven,
        summing=summing,
        gathering=gathering,
        agreeing=agreeing,
        data=max(0.0, work.conversations / work.supply - busy),
    )


def all_reduce_seconds(size: float, machine: Machine, ranks: int) -> float:
    """A sum of so many bytes over all ranks, which all of them get."""
    if ranks == 1 or size == 0:
        return 0.0
    return 2 * (ranks - 1) / ranks * size / machine.bandwidth(ranks) + 2 * math.log2(ranks) * machine.latency


def all_gather_seconds(size: float, machine: Machine, ranks: int) -> float:
    """So many bytes, a share of them on each rank, put together on all of them."""
    if ranks == 1 or size == 0:
        return 0.0
    return (ranks - 1) / ranks * size / machine.bandwidth(ranks) + math.log2(ranks) * machine.latency


def efficiency(work: Workload, machine: Machine, ranks: int) -> float:
    """Conversations a second of each rank, as a share of those of one rank alone that pads nothing."""
    return step_parts(work, machine, 1, spread=0.0).seconds / step_parts(work, machine, ranks).seconds


def drawn_excess(ranks: int, work: Workload) -> float:
    """How far the busiest rank is above the mean of rows without padding, where drawn lengths are dealt as in a run."""
    if work.cv == 0:
        return 0.0
    rows = max(1, round(work.conversations))
    return _mean_excess(ranks, rows, max(1, rows // work.micro_batches), work.cv)


@cache
def _mean_excess(ranks: int, rows: int, micro_batch: int, cv: float) -> float:
    """The mean over some steps of lognormal lengths, which are the same each time."""
    drawn = random.Random(0)
    sigma = math.sqrt(math.log(1 + cv**2))
    found = []
    for _ in range(_STEPS):
        lengths = [max(1, round(1000 * drawn.lognormvariate(-(sigma**2) / 2, sigma))) for _ in range(rows * ranks)]
        dealing = Dealing(costs=[ItemCost(length) for length in lengths], rows=micro_batch, tower=0.0)
        loads = dealing.loads(dealing.shares(range(len(lengths)), ranks))
        found.append(max(loads) * ranks / sum(lengths) - 1)
    return mean(found)
