"""Memory and disk that a merge takes, stated before any weight is read."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from vlm_lit.errors import ConfigError
from vlm_lit.models.merge.merging import weight_files
from vlm_lit.training.memory import free_memory

_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, kw_only=True)
class MergeNeeds:
    """The most memory and disk that a merge takes at once, in bytes, beside what is free.

    One model is in memory at a time: the base as it is stored, and later in the dtype that is written. A layer and the
    adapter come on top, a few percent.

    Args:
        memory: bytes of the larger of the two.
        disk: bytes of the merged weights, twice where float32 weights are written beside them for a time.
        free: bytes of memory that are free; None where the system does not say.
        room: bytes free on the disk of the output.
    """

    memory: int
    disk: int
    free: int | None
    room: int

    @property
    def words(self) -> list[str]:
        """Lines for the user; the second where memory may not suffice."""
        free = "" if self.free is None else f" ({_gb(self.free)} free)"
        needed = (
            f"Merging takes {_gb(self.memory)} of memory{free} and {_gb(self.disk)} of disk ({_gb(self.room)} free)."
        )
        if self.free is None or self.memory <= self.free:
            return [needed]
        return [needed, "warning: that is more memory than is free. Close other programs, or add swap."]


def merge_needs(base: Path, output: Path, dtype: torch.dtype, *, checked_below: int) -> MergeNeeds:
    """What merging into the base in a folder takes, by the headers of its weight files.

    Args:
        base: folder of the base.
        output: folder that will be written.
        dtype: of the merged weights.
        checked_below: parameters below which the model is merged in float32 too, for a check.

    Raises:
        ConfigError: the disk has no room for it.
    """
    parameters, stored = _held(base)
    checked = parameters < checked_below and dtype != torch.float32
    memory = parameters * max(4 if checked else dtype.itemsize, math.ceil(stored / max(parameters, 1)))
    disk = parameters * (dtype.itemsize + (4 if checked else 0))
    there = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    found = MergeNeeds(
        memory=memory, disk=disk, free=free_memory(torch.device("cpu")), room=shutil.disk_usage(there).free
    )
    if disk > found.room:
        raise ConfigError(
            f"The merged model takes {_gb(disk)} on the disk of {output}, which has {_gb(found.room)} left. Free some, "
            "or name an --output elsewhere."
        )
    return found


def _held(folder: Path) -> tuple[int, int]:
    """How many numbers a checkpoint's weights are, and their bytes."""
    parameters = stored = 0
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                part = file.get_slice(name)
                count = math.prod(part.get_shape())
                parameters += count
                stored += count * _BYTES.get(part.get_dtype(), 1)
    return parameters, stored


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
