"""Kernels of a step on a GPU: seconds of each kind of work, how busy the device was, and the dearest kernels.

A kernel's kind is told by its name, so a name that is not known counts as element-wise; the dearest ones are listed for
that reason. On a CPU the operators stand for kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

_MARKS: Final[Mapping[str, tuple[str, ...]]] = {
    "attention": ("fmha", "flash", "attention", "softmax_fprop", "_sdpa"),
    "unpacking": ("dequantize",),
    "optimizer": ("multi_tensor_apply", "adam"),
    "copies": ("memcpy", "memset"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "splitkreduce", "gemv", "aten::mm", "aten::addmm", "aten::bmm"),
}
"""Parts of the names of each kind, the first kind that has one: attention is made of CUTLASS too."""
KINDS: Final = (*_MARKS, "element_wise")
_MOST_LISTED: Final = 15
_LONGEST_NAME: Final = 120


def kind_of(name: str) -> str:
    """The kind of a kernel by its name."""
    small = name.lower()
    return next((kind for kind, marks in _MARKS.items() if any(mark in small for mark in marks)), "element_wise")


class Kernels:
    """A profile of what the device does between `start` and `stop`, its own kernels alone where it has some."""

    def __init__(self) -> None:
        self.on_gpu = torch.cuda.is_available()
        self._profile: profile | None = None

    def start(self) -> None:
        """Begin."""
        self._profile = profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU])
        self._profile.start()

    def stop(self, seconds: float) -> dict[str, Any]:
        """End; what was found.

        Args:
            seconds: what passed on the clock since the start, the device waited for.
        """
        assert self._profile is not None
        self._profile.stop()
        made, self._profile = self._profile, None
        every = made.events() or []  # type: ignore[no-untyped-call]
        events = [event for event in every if (event.device_type.name == "CUDA") == self.on_gpu]
        return split(events, seconds, _on_the_device if self.on_gpu else _on_the_processor)


def split(events: Iterable[Any], seconds: float, taken: Callable[[Any], float]) -> dict[str, Any]:
    """What a profile's events say.

    Args:
        events: of one device.
        seconds: what passed on the clock.
        taken: an event's own seconds.

    Returns:
        `seconds` of each kind; `clock`; `busy`, the share of the clock in which kernels ran (a fraction); `launches`;
        `kernels`, the dearest ones: name, kind, seconds, how often.
    """
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in events:
        by_name[event.name].append(taken(event))
    kinds = dict.fromkeys(KINDS, 0.0)
    for name, times in by_name.items():
        kinds[kind_of(name)] += sum(times)
    dearest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:_MOST_LISTED]
    return {
        "seconds": kinds,
        "clock": seconds,
        "busy": sum(kinds.values()) / seconds if seconds else 0.0,
        "launches": sum(map(len, by_name.values())),
        "kernels": [
            {"name": name[:_LONGEST_NAME], "kind": kind_of(name), "seconds": sum(times), "times": len(times)}
            for name, times in dearest
        ],
    }


def _on_the_device(event: Any) -> float:  # noqa: ANN401 - torch has no public type of an event
    return float(event.time_range.elapsed_us()) / 1e6


def _on_the_processor(event: Any) -> float:  # noqa: ANN401 - as above
    return float(event.self_cpu_time_total) / 1e6
