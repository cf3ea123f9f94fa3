"""GPUs for rent: their usable memory, and the largest micro-batch that fits into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RESERVE: Final = 2**30
"""Bytes that no tensor gets: the CUDA context (about half of it), cuBLAS' workspace, and holes between blocks."""

MOST_ROWS: Final = 1024
"""Where counting rows ends."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Cards of one size.

    Args:
        names: what they are called.
        gigabytes: memory as it is sold. Read as 10^9 bytes, the least that it can mean: an A10G or L4 of 24 GB shows
            22.5 GiB, an RTX 4090 24.0 GiB.
    """

    names: str
    gigabytes: int

    @property
    def usable(self) -> int:
        """Bytes for tensors."""
        return self.gigabytes * 10**9 - RESERVE


GPUS: Final = (
    Gpu(names="RTX 3090, RTX 4090, A10G, L4", gigabytes=24),
    Gpu(names="A100 40 GB", gigabytes=40),
    Gpu(names="A6000, L40S", gigabytes=48),
    Gpu(names="A100 80 GB, H100", gigabytes=80),
    Gpu(names="H200", gigabytes=141),
)


def most_rows(total: Callable[[int], int], gpu: Gpu) -> int:
    """The largest micro-batch whose bytes, `total` of its rows, fit; 0 where one row does not, at most MOST_ROWS."""
    fits, too_many = 0, 1
    while too_many <= MOST_ROWS and total(too_many) <= gpu.usable:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1 and fits < MOST_ROWS:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if total(middle) <= gpu.usable else (fits, middle)
    return fits
