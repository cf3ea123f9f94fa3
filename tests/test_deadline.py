"""Tests behind a deadline are skipped, and the run says that they were."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(1000.0, "1 failed, 1 passed"), (-1.0, "2 skipped")], ids=["before", "behind"]
)
def test_only_tests_before_the_deadline_begin(tmp_path: Path, seconds: float, outcome: str) -> None:
    test_file = tmp_path / "test_two.py"
    test_file.write_text("def test_passes(): pass\n\n\ndef test_fails(): raise ValueError\n")
    arguments = ["-p", "tests.support.deadline", "-p", "no:cacheprovider", "-ra", "-c", "/dev/null"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(test_file), *arguments, f"--deadline={time.time() + seconds}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert outcome in run.stdout
    assert ("no time was left" in run.stdout) == (seconds < 0)
