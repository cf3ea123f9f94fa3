"""Promises that the test suite keeps: the tests of each are run, and their number is what is shown."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from soak_rows import Row

_ROOT: Final = Path(__file__).parents[2]

TESTS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "tests/training/test_resume.py",
        "tests/training/test_classifier_resume.py",
        "tests/training/test_preference_exact.py",
    ),
    2: ("tests/training/test_run_curves.py", "tests/data/test_sampler.py"),
    3: ("tests/training/test_checkpoint_io.py",),
    4: ("tests/training/test_going_on.py", "tests/commands/test_run_place.py"),
    5: ("tests/models/test_adapter_state.py", "tests/commands/test_merge.py"),
    6: ("tests/commands/test_bad_data.py", "tests/data/test_bad_inputs.py", "tests/data/test_packed_bombs.py"),
    7: ("tests/data/test_masking.py", "tests/data/test_property_controls.py"),
    8: ("tests/training/test_supervised.py", "tests/training/test_ranks.py"),
    9: ("tests/training/test_memory.py",),
    10: ("tests/training/test_supervised.py",),
    11: (
        "tests/commands/test_untrusted_configs.py",
        "tests/models/test_hostile_checkpoints.py",
        "tests/training/test_checkpoint_io.py",
    ),
    12: ("tests/commands/test_secrets.py",),
    13: ("tests/test_constraints.py",),
    14: (
        "tests/training/test_stopping.py",
        "tests/training/test_run_lock.py",
        "tests/training/test_lost_ranks.py",
    ),
}


def run(_: argparse.Namespace) -> list[Row]:
    """A row for each promise that has tests."""
    return [_row(number, files) for number, files in TESTS.items()]


def _row(number: int, files: tuple[str, ...]) -> Row:
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    last = next((line for line in reversed(done.stdout.splitlines()) if " in " in line), "no test was found")
    told = re.sub(r"^=+ | =+$", "", last.strip())
    return Row(promise=number, figure=f"tests: {', '.join(files)}", here=told, held=done.returncode == 0)
