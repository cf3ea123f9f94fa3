"""Child processes that end with their parent, with the status, memory and last output of each."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_LOOK_EVERY: Final = 0.1  # seconds
_MIB: Final = 1024 * 1024
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its status (-9: killed by signal 9), its largest resident set, what it said last.

    The resident set is never below this process's own, of which a child begins as a copy: some 100 MiB in a worker.
    """

    status: int
    peak_memory_mib: float
    last_words: str


def run_child(
    words: Sequence[str], log: Path, *, on_tick: Callable[[], None], keep: Sequence[int] = (), lines: int = 12
) -> Ended:
    """Run a command to its end, what it says appended to `log`.

    It gets SIGKILL when this process dies (on Linux), and when this call is left by an exception: a run here loses
    nothing by that but the steps since its last checkpoint.

    Args:
        words: the command.
        log: file for its output.
        on_tick: called a few times a second meanwhile.
        keep: descriptors that it inherits.
        lines: how many of its last lines `last_words` holds.
    """
    with log.open("ab") as output:
        begin = output.tell()
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=tuple(keep),
            preexec_fn=_die_with(os.getpid()),
        )  # fmt: skip
    try:
        return _waited(child, on_tick, log, begin, lines)
    except BaseException:
        child.kill()
        child.wait()
        raise


def run_children(commands: Sequence[Sequence[str]], *, on_tick: Callable[[], None]) -> list[int]:
    """Run commands side by side until all have ended; their statuses.

    When this call is left by an exception they get SIGTERM and are waited for; when this process dies, SIGKILL.
    """
    children = [
        subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=_die_with(os.getpid())) for words in commands
    ]
    try:
        while any(child.poll() is None for child in children):
            on_tick()
            time.sleep(_LOOK_EVERY)
        return [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        raise


def _waited(child: subprocess.Popen[bytes], on_tick: Callable[[], None], log: Path, begin: int, lines: int) -> Ended:
    while True:
        # `wait4` is the one call that tells what this child used; Popen's own waiting would take its status away.
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        if ended:
            child.returncode = os.waitstatus_to_exitcode(status)
            return Ended(
                status=child.returncode,
                peak_memory_mib=usage.ru_maxrss * _RSS_UNIT / _MIB,
                last_words=last_lines(log, begin, lines),
            )
        on_tick()
        time.sleep(_LOOK_EVERY)


def last_lines(path: Path, begin: int, count: int) -> str:
    """The last lines of a text file behind the byte `begin` that are not blank."""
    with path.open("rb") as file:
        file.seek(max(begin, path.stat().st_size - 16_384))
        text = file.read().decode("utf-8", errors="replace").replace("\r", "\n")
    return "\n".join([line.rstrip() for line in text.split("\n") if line.strip()][-count:])


def _die_with(parent: int) -> Callable[[], None] | None:
    """What makes a child ask for SIGKILL at its parent's death; nothing where the system knows no such thing."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
