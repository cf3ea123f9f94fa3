"""Surroundings of a run that its last bits follow from: the machine that computes it, and this package's code."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

_ROOT = Path(__file__).parents[1]


def machine(device: torch.device) -> dict[str, str | int]:
    """What decides the order in which a device adds numbers up: its kind, its instructions, and the threads."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        processor, instructions = torch.cuda.get_device_name(device), f"{major}.{minor}"
    else:
        processor, instructions = _processor(), str(torch.backends.cpu.get_cpu_capability())
    return {
        "accelerator": device.type,
        "processor": processor,
        "instructions": instructions,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@cache
def _code_files() -> Mapping[str, str]:
    found = {path.relative_to(_ROOT).as_posix(): path for path in sorted(_ROOT.rglob("*.py"))}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in found.items()}


def code_files() -> dict[str, str]:
    """Each file of this package by its path in it, with its digest: a checkout changes without its version."""
    return dict(_code_files())


def code_digest(files: Mapping[str, str] | None = None) -> str:
    """One digest of all files of the code."""
    listed = sorted((_code_files() if files is None else files).items())
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in listed).encode()).hexdigest()
