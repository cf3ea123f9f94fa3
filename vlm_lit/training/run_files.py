"""Names of the files that a run writes into its directory, so that nothing else there is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from vlm_lit.files.staged import STAGED

_PICTURES: Final = (
    "predictions.png", "confusion.png", "confusion.json", "reliability.png", "reliability.json", "numbers.png",
)  # fmt: skip
EVALUATIONS: Final = {
    "validate": ("val_predictions.jsonl", "val_results.json", "config.validate.yaml"),
    "test": ("predictions.jsonl", "results.json", *_PICTURES, "config.test.yaml"),
    "predict": ("predict_predictions.jsonl", "predict_results.json", "config.predict.yaml"),
}
"""What each verb that evaluates leaves: answers, results, pictures, config."""
_ADAPTER: Final = ("adapter_model.safetensors", "adapter_config.json", "fingerprint.json", "README.md")
_PATTERNS: Final = (
    "config.yaml",
    "bad_records.jsonl",
    "hparams.yaml",
    "shortcuts.json",
    "answers.json",
    "certificate.json",
    "events.out.tfevents.*",
    # Those of the CSV logger and of W&B. MLflow's database holds other runs too.
    "lightning_logs/version_*/**/*",
    "wandb/**/*",
    "checkpoints/step-*.ckpt",
    "checkpoints/best.ckpt",
    "checkpoints/best.json",
    f"checkpoints/{STAGED}",
    "pictures/" + "[0-9a-f]" * 16 + ".jpg",
    *(f"adapter/{name}" for name in _ADAPTER),
    *(name for names in EVALUATIONS.values() for name in names),
    *(f"earlier/*/{name}" for names in EVALUATIONS.values() for name in names),
)
_RESULTS: Final = ("predictions.jsonl", "results.json")


def run_in(folder: Path) -> list[str]:
    """What says that a folder holds a run: its checkpoints, adapter and results; config and curves alone do not."""
    found = ["adapter"] if (folder / "adapter").is_dir() else []
    found += ["checkpoints"] if any((folder / "checkpoints").glob("*.ckpt")) else []
    names = [name for files in EVALUATIONS.values() for name in files if name.endswith(_RESULTS)]
    return found + [name for name in names if (folder / name).is_file()]


def written_by_run(folder: Path) -> list[Path]:
    """The files of `folder` that a run has written."""
    return sorted({path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()})


def remove(folder: Path, files: list[Path]) -> None:
    """Delete files of `folder`, and the folders below it that are empty then."""
    for path in files:
        path.unlink(missing_ok=True)
    within = {parent for path in files for parent in path.parents if folder in parent.parents}
    for parent in sorted(within, key=lambda path: -len(path.parts)):
        if not any(parent.iterdir()):
            parent.rmdir()


def set_aside(run: Path, verb: str) -> Path | None:
    """Move what an evaluation left to a folder of its own below `run/earlier/`; None where there is nothing."""
    there = [run / name for name in EVALUATIONS[verb] if (run / name).is_file()]
    if not any(path.name.endswith(_RESULTS) for path in there):
        return None
    number = 1
    while (target := run / "earlier" / f"{verb}-{number}").exists():
        number += 1
    target.mkdir(parents=True)
    for path in there:
        os.replace(path, target / path.name)
    return target
