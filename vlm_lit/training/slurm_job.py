"""The SLURM job that this process is part of: whether it was or is to be run again, and asking for that."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Container, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_PATIENCE: Final = 30.0  # seconds for SLURM's answer
_IN_VAIN: Final = 3  # runs again, behind which one without a step is the last
_BY_HAND: Final = ("bash", "interactive")  # names of jobs in which Lightning starts no run of SLURM's


def requeue() -> None:
    """Let SLURM run this job again from its start; `fit` then goes on from its last checkpoint."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:  # the run must end all the same
        os.write(2, f"SLURM was not asked to run job {job} again ({error}). Submit it again to go on.\n".encode())


def requeue_if_wanted(number: int, signals: Container[int] = (signal.SIGUSR1,)) -> None:
    """Let SLURM run this job again behind one of these signals, or where another job takes its place.

    Args:
        number: the signal that ends the process.
        signals: those by which SLURM says that the job's time is nearly over.
    """
    if number in signals or preempted():
        requeue()


def requeue_from_start(number: int) -> None:
    """As `requeue_if_wanted`, for a process that has done nothing which the next one could go on from.

    A job whose time is too short for its start, or for a whole evaluation, would be run again without end.
    """
    again = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if number == signal.SIGUSR1 and again >= _IN_VAIN:
        told = f"The job's time was over before a training step; SLURM has run it again {again} times, not once more."
        os.write(2, f"{told} Give it more time (sbatch --time) and submit it again.\n".encode())
    else:
        requeue_if_wanted(number)


def requeued() -> bool:
    """Whether SLURM runs this job again."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def preempted() -> bool:
    """Whether SLURM takes this job's place for another job, and lets it end by itself before that (its GraceTime).

    Where it does, SLURM counts the job as failed and does not run it again, whatever its PreemptMode. After the time,
    or without any, it takes the job back itself.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    words = ["scontrol", "show", "job", job, "--oneliner"]
    try:
        told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=_PATIENCE).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    said = dict(word.split("=", 1) for word in told.split() if "=" in word)
    at, began = said.get("PreemptTime", ""), said.get("StartTime", "")
    # A time of an earlier start would be that of another preemption.
    return said.get("JobState") == "RUNNING" and said.get("Requeue") == "1" and at[:1].isdigit() and at >= began


@contextmanager
def starting() -> Iterator[None]:
    """A signal to stop ends the block, and the job is run again where it would be later on.

    Importing takes seconds, and minutes on a slow file system. Whoever takes the signals over within has them.
    """
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in _BY_HAND:
        yield
        return

    def stop(number: int, _: FrameType | None) -> NoReturn:
        if os.environ.get("SLURM_PROCID") == "0":
            requeue_from_start(number)
        raise SystemExit(128 + number)

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
