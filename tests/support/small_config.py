"""A runnable config for a tiny checkpoint and a small data set."""

from __future__ import annotations

from pathlib import Path

import yaml

Settings = dict[str, object]


def write(
    folder: Path,
    checkpoint: Path,
    data_set: Path,
    *,
    model: Settings | None = None,
    data: Settings | None = None,
    trainer: Settings | None = None,
) -> Path:
    """Write `folder/config.yaml`: NF4 language model with LoRA, projector in full, dropout off. Returns its path."""
    fp32 = {"precision": "fp32"}
    parts = {
        "vision_tower": fp32,
        "projector": {**fp32, "training": "full"},
        "language_model": {"precision": "nf4", "training": "lora"},
        "head": fp32,
    }
    settings = {
        "seed_everything": 7,
        "run_dir": str(folder / "run"),
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **(trainer or {}),
        },
        "model": {
            "class_path": "vlm_lit.training.supervised.SupervisedModule",
            "init_args": {
                "model_id": str(checkpoint),
                "parts": parts,
                "quantization": {"compute_dtype": "fp32"},
                "lora": {"dropout": 0.0},
                "learning_rate": 1e-3,
                "max_new_tokens": 4,
                "metrics": [{"name": "vqa_accuracy"}, {"name": "exact_match"}],
                **(model or {}),
            },
        },
        "data": {
            "class_path": "vlm_lit.data.datamodule.ConversationDataModule",
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
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
