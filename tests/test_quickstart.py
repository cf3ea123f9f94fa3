"""Tests of the quickstart: a tuned model far above its base, with files to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_teaches_the_base_something(tmp_path: Path) -> None:
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "scripts/quickstart.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "runs" / "quickstart"
    (pair,) = json.loads((run / "comparison" / "comparison.json").read_text())["pairs"]
    assert (pair["a"], pair["b"]) == ("tuned", "base")
    assert pair["difference"]["mean"] >= 0.30
    assert pair["difference"]["ci95"][0] > 0
    assert pair["verdict"] == "tuned better"
    assert (run / "comparison" / "comparison.html").is_file()
    assert (run / "tuned" / "predictions.png").is_file()
    assert "tensorboard --logdir runs/quickstart" in done.stdout
