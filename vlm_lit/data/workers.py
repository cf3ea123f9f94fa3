"""Worker processes of any kind: how many the machine has room for, and what Ctrl-C means to them."""

from __future__ import annotations

import os
import signal


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to every process of a command, to the one that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
