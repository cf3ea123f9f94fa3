"""Tests of child processes: each ends with its parent, and what it used and said is known."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_lit.files.file_lock import FileLock
from vlm_lit.studies.running.child_process import run_child, run_children

PYTHON = [sys.executable, "-S", "-c"]


def nothing() -> None:
    pass


def test_status_words_and_memory_are_the_childs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier attempt\n")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # a child begins as a copy of this process
    said = "print('one\\n\\ntwo\\rthree', flush=True); sys.exit('four')"
    script = f"import sys; x = bytearray({round(own) + 200} << 20); {said}"
    big = run_child([*PYTHON, script], log, on_tick=nothing)
    small = run_child([*PYTHON, "pass"], log, on_tick=nothing)
    assert (big.status, big.last_words) == (1, "one\ntwo\nthree\nfour")
    assert (small.status, small.last_words) == (0, "")
    assert small.peak_memory_mib < own + 100 < own + 200 <= big.peak_memory_mib < own + 300
    assert log.read_text().startswith("of an earlier attempt\n")


def test_a_killed_child_says_by_what(tmp_path: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_child([*PYTHON, script], tmp_path / "log", on_tick=nothing).status == -9


def pid_in(path: Path) -> int:
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.01)
    return int(path.read_text())


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody has asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()}\\n'); time.sleep(600)"


def test_a_child_is_killed_when_the_call_is_left(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def stop() -> None:
        if note.exists():
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        run_child([*PYTHON, SLEEPER, str(note)], tmp_path / "log", on_tick=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(pid_in(note), 0)


PARENT = """
import sys
from pathlib import Path
from vlm_lit.studies.running.child_process import run_child
from vlm_lit.files.file_lock import FileLock
lock = FileLock(Path(sys.argv[2]))
lock.acquire(wait=True)
run_child(sys.argv[3:], Path(sys.argv[1]), on_tick=lambda: None, keep=[lock.descriptor])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no signal at a parent's death")
def test_a_child_dies_with_a_parent_that_is_killed_and_the_lock_is_free(tmp_path: Path) -> None:
    note, path = tmp_path / "pid", tmp_path / "lock"
    words = [sys.executable, "-c", PARENT, str(tmp_path / "log"), str(path), *PYTHON, SLEEPER, str(note)]
    parent = subprocess.Popen(words)
    child = pid_in(note)
    assert not FileLock(path).acquire(wait=False)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while not ended(child):
        time.sleep(0.01)
    with FileLock(path):
        assert not FileLock(path).acquire(wait=False)


def test_children_side_by_side_are_told_to_stop_when_the_call_is_left(tmp_path: Path) -> None:
    notes = [tmp_path / "one", tmp_path / "two"]

    def stop() -> None:
        if all(note.exists() for note in notes):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_children([[*PYTHON, SLEEPER, str(note)] for note in notes], on_tick=stop)
    assert all(ended(pid_in(note)) for note in notes)
    assert run_children([[*PYTHON, "pass"], [*PYTHON, "raise SystemExit(3)"]], on_tick=nothing) == [0, 3]
