"""Out-of-memory errors, and the search for the most rows that fit into memory."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

_HEADROOM: Final = 0.85
"""Share of the free memory that a probe may fill: rows to come may be longer than those that were tried."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, has no memory left."""
    words = str(error)  # cuBLAS and cuDNN say it in words of their own: CUBLAS_STATUS_ALLOC_FAILED
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(said in words for said in ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED"))
    )


def most_rows(step: Callable[[int], None], most: int, device: torch.device) -> int:
    """The largest power of two up to `most` for which `step` runs within the memory that is free.

    Args:
        step: a forward and backward pass over that many rows, leaving nothing behind.
        most: rows that are ever needed at once.
        device: where it runs.

    Returns:
        1 where not even two rows fit; whether one does is the caller's to find out.
    """
    fitting = rows = 1
    while rows <= most:
        before = free_memory(device)
        try:
            used = _memory_used(step, rows, device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if before is not None and used > _HEADROOM * before:
            break
        fitting = rows
        if before is not None and 2 * used > _HEADROOM * before:  # a host that runs out kills without a word
            break
        rows *= 2
    return fitting


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where the system does not say."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    path = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) * 1024 if found else None


def _memory_used(step: Callable[[int], None], rows: int, device: torch.device) -> int:
    """Bytes that the step took at its peak; on the host only what no earlier step had taken already."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(rows)
        return int(torch.cuda.max_memory_allocated(device)) - before
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(rows)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
