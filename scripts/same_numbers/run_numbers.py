"""The numbers that a run directory holds, as lines to compare; and what they depend on besides the code."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Lines = list[str]

KINDS: Final = ("losses", "adapter", "predictions", "results")
MEASURED: Final = {"samples_per_second", "tokens_per_second", "data_wait_share", "peak_memory_gib"}
"""Logged figures that no two runs share: they measure the machine."""


def run_numbers(run: Path, home: Path) -> dict[str, Lines]:
    """A finished run's numbers by kind. The folder `home`, which differs from run to run, is written as `.`.

    Raises:
        FileNotFoundError: a file is missing or there is nothing in it, so that nothing would be compared.
    """
    found = {
        "losses": scalars(run),
        "adapter": tensors(run / "adapter"),
        "predictions": _text(run / "predictions.jsonl", home).split("\n"),
        "results": results(_text(run / "results.json", home)),
    }
    for kind, lines in found.items():
        if not any(lines):
            raise FileNotFoundError(f"{run} holds no {kind}.")
    return found


def scalars(run: Path) -> Lines:
    """Every scalar of the event files, exact, in the order of the steps: `train/loss 3 2.1875`."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    points = [
        (event.step, tag, event.value)
        for tag in sorted(events.Tags()["scalars"])
        if tag.rpartition("/")[2] not in MEASURED
        for event in events.Scalars(tag)
    ]
    return [f"{tag} {step} {value!r}" for step, tag, value in sorted(points, key=lambda point: point[:2])]


def tensors(folder: Path) -> Lines:
    """Each tensor of a folder's safetensors files: file, name, dtype, shape and the sha256 of its bytes."""
    lines = []
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name).contiguous()
                raw = tensor.flatten().view(torch.uint8).numpy().tobytes()
                says = f"{path.relative_to(folder)} {name} {tensor.dtype} {list(tensor.shape)}"
                lines.append(f"{says} {hashlib.sha256(raw).hexdigest()}")
    return lines


def results(text: str) -> Lines:
    """The lines of a `results.json` without the versions that it was made with."""
    content = json.loads(text)
    content.pop("versions", None)
    return json.dumps(content, indent=1).split("\n")


def digest(folder: Path) -> str:
    """One sha256 for all files of a folder, names and bytes."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def machine() -> dict[str, str]:
    """What else the numbers depend on: the processor and the libraries."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    names = ("torch", "transformers", "peft", "bitsandbytes", "lightning", "pillow", "numpy")
    return {"cpu": cpu, "python": platform.python_version(), **{name: version(name) for name in names}}


def _text(path: Path, home: Path) -> str:
    return path.read_bytes().decode("utf-8").replace(str(home), ".")
