"""What several test files share: a tiny checkpoint, a small data set, and a run through the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import small_data
import tiny_models

# Tiny matrices: a second thread costs more than it computes.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the tiny LLaVA."""
    return tiny_models.save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (20 conversations) and val.json (6 questions)."""
    folder = tmp_path_factory.mktemp("small")
    small_data.write_conversations(folder, 20, prefix="train")
    small_data.write_conversations(folder, 6, turns=1, prefix="val")
    return folder


Settings = dict[str, object]


@pytest.fixture
def config(tiny_llava: Path, small: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a runnable config: NF4 language model with LoRA, projector in full, dropout off. Returns its path."""

    def write(*, model: Settings | None = None, data: Settings | None = None, trainer: Settings | None = None) -> Path:
        fp32 = {"precision": "fp32"}
        parts = {
            "vision_tower": fp32,
            "projector": {**fp32, "training": "full"},
            "language_model": {"precision": "nf4", "training": "lora"},
            "head": fp32,
        }
        settings = {
            "seed_everything": 7,
            "run_dir": str(tmp_path / "run"),
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
                    "model_id": str(tiny_llava),
                    "parts": parts,
                    "quantization": {"compute_dtype": "fp32"},
                    "lora": {"dropout": 0.0},
                    "learning_rate": 1e-3,
                    "max_new_tokens": 4,
                    **(model or {}),
                },
            },
            "data": {
                "class_path": "vlm_lit.data.datamodule.ConversationDataModule",
                "init_args": {
                    "train": {"path": str(small / "train.json")},
                    "val": {"path": str(small / "val.json")},
                    "test": {"path": str(small / "val.json")},
                    "effective_batch": 8,
                    "micro_batch": 3,
                    "num_workers": 0,
                    **(data or {}),
                },
            },
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    return write
