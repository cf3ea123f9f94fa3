"""Tests of the README's Python examples: run as printed, with a tiny checkpoint for the large one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

_EXAMPLES = Path(__file__).parent / "python_examples"
_LARGE = "llava-hf/llava-1.5-7b-hf"


def run_as_printed(name: str, checkpoint: Path, data_set: Path, folder: Path) -> str:
    """What an example says when a user runs it beside his files."""
    text = (_EXAMPLES / name).read_text(encoding="utf-8")
    assert _LARGE in text
    (folder / name).write_text(text.replace(_LARGE, str(checkpoint)), encoding="utf-8")
    shutil.copytree(data_set, folder, dirs_exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(_EXAMPLES.parent.parent), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, name], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_ten_lines_fine_tune_a_model(tiny_llava: Path, small: Path, tmp_path: Path) -> None:
    assert len((_EXAMPLES / "fine_tune.py").read_text().split("\n")) <= 11
    said = run_as_printed("fine_tune.py", tiny_llava, small, tmp_path)
    adapter = tmp_path / "lightning_logs" / "version_0" / "adapter"
    assert "Adapter written to lightning_logs/version_0/adapter" in said.replace(f"{tmp_path}/", "")
    assert any(
        bool(value.any()) for key, value in load_file(adapter / "adapter_model.safetensors").items() if "_B" in key
    )
    assert (tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "step-000006.ckpt").is_file()


@pytest.mark.slow
def test_own_loss_is_trained_on(tiny_llava: Path, small: Path, tmp_path: Path) -> None:
    run_as_printed("own_loss.py", tiny_llava, small, tmp_path)
    path = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "step-000006.ckpt"
    kept = torch.load(path, weights_only=True)["hyper_parameters"]
    assert (kept["smoothing"], kept["model_id"]) == (0.2, str(tiny_llava))


def test_own_module_trains_on_the_data_module(tiny_llava: Path, small: Path, tmp_path: Path) -> None:
    said = run_as_printed("own_module.py", tiny_llava, small, tmp_path)
    assert "Questions about one image get rows of their own: Mine does not say" in said
    path = next((tmp_path / "lightning_logs" / "version_0" / "checkpoints").glob("*.ckpt"))
    assert path.name == "epoch=2-step=6.ckpt"
