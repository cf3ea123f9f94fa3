"""Measurement of a step's time and memory: the same clock and the same gauges for every side."""

from __future__ import annotations

import ctypes
import gc
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile


@dataclass
class Measured:
    """What one run of one side showed.

    Args:
        loaded: bytes resident when the model, adapter and data are there and training is about to begin.
        peak: most bytes resident from then to the end of the last step.
        tensors: most bytes of tensors in use beyond those of then, as a GPU's allocator would count them; 0 where they
            were not counted, which takes time.
        ends: when training began and when each optimizer step ended, in seconds of one clock.
        work: the processor time used up to then, in seconds; it tells how busy the machine was with other things.
        losses: each step's loss, in nats a supervised token.
        ids: the conversations of each step, where the side can tell.
        waits: the share of each step's time that it waited for data, where the side can tell.
    """

    loaded: int = 0
    peak: int = 0
    tensors: int = 0
    ends: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._profile: profile | None = None

    def begin(self, model: nn.Module, *, count_tensors: bool = False) -> None:
        """The model is loaded: from here on memory counts.

        Args:
            model: what is trained.
            count_tensors: note every tensor, which makes steps slower. What is resident is more than they: the
                allocator keeps much of what is freed.
        """
        _touch(model)
        gc.collect()
        _give_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is resident
        self.loaded = resident()["VmRSS"]
        if count_tensors:
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.start()
        self._note_time()

    def step(self) -> None:
        """An optimizer step has ended."""
        self._note_time()
        self.peak = resident()["VmHWM"]

    def _note_time(self) -> None:
        self.ends.append(time.perf_counter())
        self.work.append(time.process_time())

    def finish(self) -> None:
        """Training is over: say how many bytes of tensors there were, if they were counted."""
        if self._profile is None:
            return
        self._profile.stop()
        assert self._profile.profiler is not None
        assert self._profile.profiler.kineto_results is not None
        every: list[Any] = self._profile.profiler.kineto_results.events()  # their bytes are missing from torch's stubs
        events = [event for event in every if event.name() == "[memory]"]
        in_use = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            in_use += event.nbytes()
            self.tensors = max(self.tensors, in_use)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def resident() -> dict[str, int]:
    """Bytes this process holds in memory now (VmRSS), and the most since the mark was reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def _touch(model: nn.Module) -> None:
    """Weights are mapped from their file and resident only once read; else the first step would seem to take them."""
    for weight in [*model.parameters(), *model.buffers()]:
        if weight.numel():
            weight.detach().reshape(-1).view(torch.uint8)[::1024].sum()


def _give_back_freed_memory() -> None:
    """What loading freed but the allocator kept would be used again unseen."""
    ctypes.CDLL(None).malloc_trim(0)
