"""Tests of the workbench's preferences: SFT, pairs of its own answers, DPO, and both models compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlm_lit.workbench.base_model import copy_base
from vlm_lit.workbench.dataset import write

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_story_is_told_on_few_pictures(tmp_path: Path) -> None:
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    bench = tmp_path / "workbench_shifted"
    write(
        bench, train_images=40, val_images=2, test_images=6, seed=0, dialect="plain", look="shifted", descriptions=True
    )
    copy_base(bench / "base")
    command = [sys.executable, "scripts/workbench/preferences.py", "--seeds", "7"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = tmp_path / "runs" / "preferences" / "seed7"
    for asked, metric in (("sampled", "chair"), ("likeliest", "chair"), ("questions", "vqa_accuracy")):
        (pair,) = json.loads((runs / f"compared-{asked}" / "comparison.json").read_text())["pairs"]
        assert (pair["a"], pair["b"]) == (f"preferred-{asked}", f"described-{asked}")
        found = json.loads((runs / f"preferred-{asked}" / "results.json").read_text())
        assert next(iter(found["metrics"])).startswith(metric)
    answered = [(runs / f"described-{asked}" / "predictions.jsonl").read_text() for asked in ("sampled", "likeliest")]
    assert answered[0] != answered[1]
    assert (bench / "pairs-7.jsonl").is_file()
