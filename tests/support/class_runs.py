"""Runs of a classifier: a tiny ViLT's folder, questions with ten answers about pictures of several sizes, a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support import tiny_models
from tests.support.tiny_families.vilt import ANSWERS, vilt, vilt_without_head

SIZES = ((40, 32), (90, 44), (33, 70), (64, 64))


def write_questions(folder: Path, name: str, n: int, *, outside: int = 0) -> Path:
    """VQA records with ten answers; those of the last `outside` ones are in no vocabulary of the others.

    Three questions are asked about each picture.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        picture = folder / "images" / f"{i // 3}.png"
        if not picture.exists():
            tiny_models.picture(i // 3, SIZES[i // 3 % len(SIZES)]).save(picture)
        answer, other = ANSWERS[i % len(ANSWERS)], ANSWERS[(i + 1) % len(ANSWERS)]
        given = [answer] * 7 + [other] * 2 + ["green tools"] if i < n - outside else ["a lathe"] * 6 + ["lathe"] * 4
        rows.append(
            {
                "question_id": i,
                "image": f"images/{i // 3}.png",
                "question": f"what colour is lamp {i}?" + " and the tool" * (i % 3),
                "answers": given,
                "answer_type": "yes/no" if answer in ("yes", "no") else "other",
            }
        )
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows))
    return path


def checkpoint(folder: Path, *, head: bool = True) -> Path:
    """A folder with the tiny ViLT, with its head over six answers or as it is pre-trained."""
    model, processor = vilt() if head else vilt_without_head()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_config(
    folder: Path,
    checkpoint: Path,
    data_set: Path,
    *,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
) -> Path:
    """Write `folder/config.yaml`: everything trained in full, dropout off. Returns its path."""
    settings = {
        "seed_everything": 7,
        "run_dir": str(folder / "run"),
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            **(trainer or {}),
        },
        "model": {
            "class_path": "vlm_lit.ClassifierModule",
            "init_args": {
                "model_id": str(checkpoint),
                "quantization": {"compute_dtype": "fp32"},
                "lora": {"dropout": 0.0},
                "learning_rate": 1e-3,
                "activation_checkpointing": False,
                **(model or {}),
            },
        },
        "data": {
            "class_path": "vlm_lit.ClassifierDataModule",
            "init_args": {
                "train": {"path": str(data_set / "train.json")},
                "val": {"path": str(data_set / "val.json")},
                "test": {"path": str(data_set / "val.json")},
                "effective_batch": 8,
                "micro_batch": 3,
                "num_workers": 0,
                **(data or {}),
            },
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
