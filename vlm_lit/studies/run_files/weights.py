"""Name of the weights that answered: a base as it is, with an adapter, or merged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = "weights"
_FILE: Final = "adapter_model.safetensors"
_DIGITS: Final = 12  # of a digest


def weights_of(folder: Path, results: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """`llava + adapter of runs/tuned at step 90 (sha256 1a2b...)`; empty where the files do not tell.

    Args:
        folder: the run directory that the answers are in.
        results: its results.json.
        config: of the verb that answered.
    """
    model = config.get("model")
    settings: Mapping[str, Any] = (model.get("init_args") or {}) if isinstance(model, dict) else {}
    base, adapter = results.get("model_id") or settings.get("model_id"), settings.get("adapter")
    steps = results.get("global_step")
    if not isinstance(base, str) or not isinstance(steps, int):
        return ""
    named = results.get("weights")  # results of before 2026-11-28 do not name them
    if isinstance(named, dict) and "adapter" in named:
        of_step = f" at step {steps:,}" if steps else ""
        return f"{base} + {named['adapter']}{of_step} (sha256 {str(named.get('sha256'))[:_DIGITS]})"
    if steps:
        run = _run_of(config.get("ckpt_path"), folder)
        return f"{base} + adapter of {run} at step {steps:,}{_digest(run / 'adapter') if _is_last(run, steps) else ''}"
    if isinstance(adapter, str):
        return f"{base} + {adapter}{_digest(Path(adapter))}"
    return f"{base} as it is{', a merged model' if _is_merged(Path(base)) else ''}, no adapter"


def _run_of(checkpoint: object, folder: Path) -> Path:
    """The run directory that a checkpoint is in: answers may have been written into another."""
    if not isinstance(checkpoint, str) or checkpoint == "last":
        return folder
    path = Path(checkpoint)
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _is_last(run: Path, steps: int) -> bool:
    """Whether `adapter/`, which is of a run's end, is of this step."""
    names = sorted(path.name for path in (run / "checkpoints").glob("step-*.ckpt"))
    return bool(names) and names[-1] == f"step-{steps:06d}.ckpt"


def _digest(adapter: Path) -> str:
    path = adapter / _FILE
    if not path.is_file():
        return ""
    with path.open("rb") as file:  # `models` has this too, and takes seconds to import
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f" (sha256 {digest[:_DIGITS]})"


def _is_merged(model: Path) -> bool:
    card = model / "README.md"
    return card.is_file() and "## Merging" in card.read_text(encoding="utf-8", errors="replace")
