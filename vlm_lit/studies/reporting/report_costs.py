"""Size of a run's saved adapter: how many parameters were trained, and the MiB of its file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from vlm_lit.errors import VlmLitError
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS
from vlm_lit.models.merge.base_source import read_fingerprint

_ADAPTER: Final = "adapter"
_MIB: Final = 1024**2


@dataclass(frozen=True, kw_only=True)
class AdapterSize:
    """How many numbers were trained, and the MiB of the file that holds them."""

    parameters: int
    mib: float


def adapter_size(folder: Path) -> AdapterSize | None:
    """Count what a run trained by what it saved; None where it saved no adapter, for it trained nothing.

    Raises:
        VlmLitError: the file is damaged.
    """
    path = folder / _ADAPTER / WEIGHTS
    if not path.is_file():
        return None
    start_beside = _keeps_its_start(folder / _ADAPTER)
    try:
        with safe_open(path, "numpy") as file:
            parameters = sum(
                math.prod(file.get_slice(name).get_shape()) // (2 if start_beside and ".lora_" in name else 1)
                for name in file.keys()  # noqa: SIM118
            )
    except (OSError, SafetensorError) as error:
        raise VlmLitError(f"{path}: is damaged ({error}). Remove {folder} and run the study again.") from error
    return AdapterSize(parameters=parameters, mib=path.stat().st_size / _MIB)


def _keeps_its_start(adapter: Path) -> bool:
    """Whether saved LoRA matrices have twice the trained rank: PiSSA's frozen start stands beside what was trained."""
    lora = (read_fingerprint(adapter).get("lora") if (adapter / FINGERPRINT).is_file() else None) or {}
    return bool(lora.get("start") == "pissa")
