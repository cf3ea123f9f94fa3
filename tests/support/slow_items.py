"""Items that take longer than a test, for processes that are killed while their workers are busy."""

from __future__ import annotations

import os
import time
from pathlib import Path


class SlowItems:
    """Eight items of five minutes each; a file named for its process says of each that it was begun."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        (self.begun / str(os.getpid())).touch()
        time.sleep(300)
        return index


def busy(begun: Path, workers: int) -> list[int]:
    """The processes that have begun an item, once there are so many."""
    while len(found := [int(path.name) for path in begun.iterdir()]) < workers:
        time.sleep(0.01)
    return found


def lives(pid: int) -> bool:
    """Whether a process is there and does something."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
