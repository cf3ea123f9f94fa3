"""Ctrl-C and SIGTERM, noted when they come and obeyed when a run's state is whole; SLURM requeueing too."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any, Final

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

STOPPING: Final = "\nStopping: this step is finished and its state kept. Ctrl-C once more leaves at once.\n"


class StopSignals:
    """The first SIGINT or SIGTERM of this process while they are watched; a further SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at_once = False
        self._earlier: dict[signal.Signals, Any] = {}

    def watch(self, *further: signal.Signals) -> None:
        """Take both signals over, and further ones, Lightning's handlers for them included."""
        self.received, self.at_once = None, False
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets no other thread do this
        for number in (signal.SIGINT, signal.SIGTERM, *further):
            self._earlier[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._earlier = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            os.write(2, STOPPING.encode())  # print may be what was interrupted
        elif number == signal.SIGINT:
            self.at_once = True
            raise KeyboardInterrupt


def requeue_signals(environment: ClusterEnvironment) -> tuple[signal.Signals, ...]:
    """What SLURM announces the end of a job's time with, where Lightning would have the job run again.

    Lightning's own handler saves in the middle of a step, and prefers that file to any other ever after.
    """
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return ()
    return (signal.Signals(environment.requeue_signal or signal.SIGUSR1),)


def requeue() -> None:
    """Let SLURM run this job again from its start; `fit` then goes on from its last checkpoint."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    subprocess.run(["scontrol", "requeue", job], check=True)


def requeued() -> bool:
    """Whether SLURM runs this job again."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
