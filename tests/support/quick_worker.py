"""Worker on a study of quick cells: `quick_worker.py STUDY STORAGE MACHINE`, `-` for a local file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vlm_lit.studies.running.queue import Queue
from vlm_lit.studies.running.storage import Heartbeat
from vlm_lit.studies.running.study_file import read_study
from vlm_lit.studies.running.worker import Worker

COMMAND = (sys.executable, "-S", str(Path(__file__).with_name("quick_cell.py")))
HEARTBEAT = Heartbeat(every=1, grace=4)


def queue(file: Path, storage: str | None = None, machine: str | None = None) -> Queue:
    return Queue(read_study(file), storage, heartbeat=HEARTBEAT, worker=f"{machine}:{os.getpid()}", machine=machine)


def work(one: Queue, *, retry: bool = False, chosen: set[str] | None = None) -> None:
    with one:
        worker = Worker(queue=one, heartbeat=HEARTBEAT, on_tick=lambda: None, command=COMMAND, chosen=chosen)
        worker.work(retry=retry)


if __name__ == "__main__":
    file, storage, machine = sys.argv[1:]
    work(queue(Path(file), None if storage == "-" else storage, None if machine == "-" else machine))
