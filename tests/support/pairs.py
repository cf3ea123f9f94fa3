"""Small data sets of pairs, and runs over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support import small_config, small_data, tiny_models
from tests.support.small_config import Settings

SAID = ("red", "blue and green", "two tools", "no", "it is yellow", "a lamp that is on")


def write_pairs(folder: Path, n: int, *, prefix: str = "", per_image: int = 1) -> Path:
    """Pairs about pictures, `per_image` about each; their answers are of different lengths."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        name = f"images/{prefix}pair{i // per_image}.png"
        tiny_models.picture(i // per_image).save(folder / name)
        question = "what colour is the lamp?" if i % per_image == 0 else f"and what is thing {i}?"
        rows.append(
            {
                "id": f"{prefix}{i}",
                "image": name,
                "question": question,
                "chosen": SAID[i % len(SAID)],
                "rejected": SAID[(i * 2 + 1) % len(SAID)] + " or not",
            }
        )
    path = folder / f"{prefix or 'pairs'}.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_folder(folder: Path, validation: str) -> Path:
    """train.json with 20 pairs, and val.json with 6 pairs or 6 questions."""
    write_pairs(folder, 20, prefix="train", per_image=2 if validation == "pairs" else 1)
    if validation == "pairs":
        write_pairs(folder, 6, prefix="val")
    else:
        small_data.write_conversations(folder, 6, turns=1, prefix="val")
    return folder


def preference_config(
    folder: Path,
    checkpoint: Path,
    data_set: Path,
    *,
    model: Settings | None = None,
    data: Settings | None = None,
    trainer: Settings | None = None,
) -> Path:
    """A runnable config of a preference run over pairs in train.json, validated by val.json. Returns its path."""
    path = small_config.write(folder, checkpoint, data_set, model=model, data=data, trainer=trainer)
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    settings["model"]["class_path"] = "vlm_lit.training.preference.PreferenceModule"
    settings["data"]["class_path"] = "vlm_lit.data.preference_datamodule.PreferenceDataModule"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
