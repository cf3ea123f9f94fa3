"""Worker processes of any kind: how many the machine has room for, what signals mean to them, when they end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Final

_PARENT_DEATH: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to every process of a command, to the one that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave_stops() -> None:
    """Leave every signal to stop to the process that started this one; a SIGTERM of that one ends this one.

    A scheduler sends SIGTERM and SIGUSR1 to all processes of a job, a terminal Ctrl-C and SIGHUP; the one that trains
    still needs data to finish its step. By SIGTERM it also ends its workers, so the sender is looked at.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True, name="sigterm").start()


def _end_when_told() -> None:
    while True:
        told = signal.sigwaitinfo({signal.SIGTERM})
        if told.si_pid == os.getppid():
            os._exit(0)


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that forked it dies, whatever it dies of; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
