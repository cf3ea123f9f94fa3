"""Small studies whose cells are quick: the study file, the workers on it, and what they left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from vlm_lit.studies.running.cell_record import CellRecord, read_record
from vlm_lit.studies.running.grid import cells
from vlm_lit.studies.running.study_file import read_study


def write_study(home: Path, /, **changes: object) -> Path:
    """`home/study.yaml` with two factors of three and two levels, one seed, and its config."""
    (home / "config.yaml").write_text("model: {rank: 1}\n")
    content: dict[str, object] = {
        "name": "quick",
        "config": "config.yaml",
        "folder": str(home / "out"),
        "metric": "accuracy",
        "factors": {
            "x": {"key": "x", "values": [0.25, 0.5, 0.75]},
            "way": {"levels": {"short": {}, "long": {"set": {"data.length": 9}}}},
        },
        "seeds": [0],
        "baseline": {"x": 0.5, "way": "short"},
        **changes,
    }
    path = home / "study.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False)
    )
    return path


def start_worker(file: Path, storage: str | None = None, machine: str | None = None) -> subprocess.Popen[bytes]:
    """A worker in a process of its own; it finds relative paths in the folder of the study."""
    script = Path(__file__).with_name("quick_worker.py")
    words = [sys.executable, str(script), str(file), storage or "-", machine or "-"]
    return subprocess.Popen(words, cwd=file.parent)


def records(file: Path) -> dict[str, CellRecord | None]:
    """Each cell's record by its key."""
    study = read_study(file)
    return {cell.key: read_record(cell.folder(study)) for cell in cells(study)}


def until(true: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that happens while a process lives."""
    while not true():
        assert process.poll() is None
        time.sleep(0.005)
