"""Signals that ask a run to stop, noted when they come and obeyed when its state is whole; SLURM requeueing too."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vlm_lit.training.slurm_job import requeue_from_start

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; preemption and `kill`; a terminal that was closed; a scheduler's word that the job's time is nearly over."""

STOPPING: Final = "\nStopping ({name}): this step is finished and its state kept. Ctrl-C once more leaves at once.\n"
_AT_ONCE: Final = "\nStopped ({name}); no training step was under way.\n"


class StopSignals:
    """The first signal to stop that this process gets while they are watched; a further SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at_once = False
        self._earlier: dict[signal.Signals, Any] = {}

    def watch(self, *further: signal.Signals) -> None:
        """Take them over, and further ones, Lightning's handlers for them included.

        One that is ignored stays so: `nohup` has a run go on when its terminal is closed.
        """
        self.received, self.at_once = None, False
        self._earlier = _taken_over(self._note, *further)

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        _given_back(self._earlier)
        self._earlier = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            os.write(2, STOPPING.format(name=self.received.name).encode())  # print may be what was interrupted
        elif number == signal.SIGINT:
            self.at_once = True
            raise KeyboardInterrupt


def _taken_over(handler: Any, *further: signal.Signals) -> dict[signal.Signals, Any]:  # noqa: ANN401 - signal's own
    """The earlier handlers of the signals that are now `handler`'s."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python lets no other thread do this
    numbers = [n for n in (*STOPS, *further) if signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def _given_back(earlier: dict[signal.Signals, Any]) -> None:
    for number, handler in earlier.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """A signal to stop ends the block where it stands: outside of training there is no state to keep.

    Raises:
        SIGTERMException: there was one other than Ctrl-C, which raises KeyboardInterrupt as ever.
    """

    def stop(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        os.write(2, _AT_ONCE.format(name=signal.Signals(number).name).encode())
        if SLURMEnvironment.detect() and rank_zero_only.rank == 0:
            requeue_from_start(number)
        raise SIGTERMException(128 + number)

    earlier = _taken_over(stop)
    try:
        yield
    finally:
        _given_back(earlier)


def requeue_signals(environment: ClusterEnvironment) -> tuple[signal.Signals, ...]:
    """What SLURM announces the end of a job's time with, where Lightning would have the job run again.

    Lightning's own handling is switched off: it saves in the middle of a step, prefers that file to any other ever
    after, and passes over SIGTERM.
    """
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return ()
    environment.auto_requeue = False
    return (signal.Signals(environment.requeue_signal or signal.SIGUSR1),)
