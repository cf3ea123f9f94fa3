"""Kinds of work in a profiled piece of training: seconds and multiplications of each.

The time of an operator without what it calls is put under one of the `KINDS`; so products inside bitsandbytes' 4-bit
operator count as products, and what it unpacks as unpacking. What no operator takes is Python's, the profiler's own
time included. Operators of all threads but the training's own are left out: they run within its time.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import torch
from torch import Tensor

Kind = Literal["products", "attention", "unpacking", "element_wise", "optimizer", "data", "python"]
KINDS: Final[tuple[Kind, ...]] = (
    "products", "attention", "unpacking", "element_wise", "optimizer", "data", "python",
)  # fmt: skip
_WHOLE: Final[Mapping[str, Kind]] = {
    "enumerate(DataLoader)": "data",
    "Optimizer.": "optimizer",
    "bitsandbytes::dequantize": "unpacking",
    "aten::_scaled_dot_product": "attention",
}
"""Beginnings of the names whose operators count with all that they call."""
_COUNTED: Final = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution")
_UNCOUNTED: Final[Mapping[str, slice]] = {"aten::addmm_": slice(1, 3), "mkldnn::_linear_pointwise": slice(0, 2)}
"""Products that torch's profiler counts nothing for, with the places of the two that are multiplied."""
_PAIRS: Final = "aten::_scaled_dot_product_flash_attention_for_cpu"
_MOST_LISTED: Final = 12


def kind_of(name: str) -> Kind | None:
    """The kind of an operator by its name; None where it does nothing itself, as a range that was marked does."""
    for beginning, kind in _WHOLE.items():
        if name.startswith(beginning):
            return kind
    if name in _COUNTED or name in _UNCOUNTED:
        return "products"
    return "element_wise" if name.startswith(("aten::", "bitsandbytes::")) else None


def split(events: Iterable[Any], seconds: float) -> dict[str, Any]:
    """Seconds by kind.

    Args:
        events: those of a `torch.profiler.profile`; without shapes, whose noting makes the time that is split longer.
        seconds: what all of it took on the clock.

    Returns:
        `seconds` of each kind; `operators`: the dearest ones that are neither products nor attention, in seconds.
    """
    every = list(events)
    main = _busiest(every)
    taken, operators = defaultdict[str, float](float), defaultdict[str, float](float)
    for event in every:
        kind = _kind(event) if event.thread == main else None
        if kind is not None:
            taken[kind] += event.self_cpu_time_total / 1e6
            if kind not in ("products", "attention", "data"):
                operators[event.name] += event.self_cpu_time_total / 1e6
    taken["python"] = max(0.0, seconds - sum(taken.values()))
    return {
        "seconds": {kind: taken[kind] for kind in KINDS},
        "operators": dict(sorted(operators.items(), key=lambda item: -item[1])[:_MOST_LISTED]),
    }


def counts(events: Iterable[Any]) -> dict[str, float]:
    """What was multiplied: `flops` of products, `pairs` of queries and keys that attention computed, over all heads.

    Args:
        events: those of a `torch.profiler.profile` with shapes and flops.
    """
    every = list(events)
    return {
        "flops": sum(_flops(event) for event in every),
        "pairs": sum(_pairs(event) for event in every),
    }


def _busiest(events: Sequence[Any]) -> int:
    """The thread that trains."""
    busy = defaultdict[int, float](float)
    for event in events:
        busy[event.thread] += event.self_cpu_time_total
    return max(busy, key=lambda thread: busy[thread])


def _kind(event: Any) -> Kind | None:  # noqa: ANN401 - torch has no public type of an event
    """The kind of an event: that of the outermost whole it lies in, else its own."""
    found, above = kind_of(event.name), event.cpu_parent
    while above is not None:
        if above.name.startswith(tuple(_WHOLE)):
            found = kind_of(above.name)
        above = above.cpu_parent
    return found


def _flops(event: Any) -> float:  # noqa: ANN401 - torch has no public type of an event
    """Multiplications and additions of a product; 0 for another event."""
    if event.name in _UNCOUNTED:
        (rows, _), other = event.input_shapes[_UNCOUNTED[event.name]]
        return 2.0 * float(rows * math.prod(other))
    return float(event.flops or 0) if event.name in (*_COUNTED, "aten::conv2d") else 0.0


def _pairs(event: Any) -> float:  # noqa: ANN401 - as above
    """Pairs of a query and a key that a forward pass of attention computes, over all heads; 0 for another event."""
    if event.name != _PAIRS:
        return 0.0
    queries, keys = event.input_shapes[:2]
    causal = event.concrete_inputs[4]
    whole = float(math.prod(queries[:3]) * keys[2])
    return whole * (1 + 1 / queries[2]) / 2 if causal else whole


def seen_pairs(inputs: Mapping[str, Tensor], segments: Tensor | None) -> int:
    """Pairs of a query and a key that the tokens of a causal language model need, in one head.

    Args:
        inputs: `attention_mask` [B, L] among them.
        segments: whose each token is [B, L]; None where rows are not shared.
    """
    mask = inputs["attention_mask"].bool()
    owners = torch.zeros_like(mask, dtype=torch.int64) if segments is None else segments
    total = 0
    for row, valid in zip(owners, mask, strict=True):
        lengths = Counter(row[valid].tolist())
        prefix = lengths.pop(0, 0)
        total += prefix * (prefix + 1) // 2 + sum(n * prefix + n * (n + 1) // 2 for n in lengths.values())
    return total


def peak(size: int = 1024, repeats: int = 12) -> float:
    """Multiplications and additions a second of the best of several float32 products on this machine."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    best = math.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best
