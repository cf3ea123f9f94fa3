"""Ctrl-C and SIGTERM, noted when they come and obeyed when a run's state is whole."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Final

STOPPING: Final = "\nStopping: this step is finished and its state kept. Ctrl-C once more leaves at once.\n"


class StopSignals:
    """The first SIGINT or SIGTERM of this process while they are watched; a further SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at_once = False
        self._earlier: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        """Take both signals over, Lightning's handlers for them included."""
        self.received, self.at_once = None, False
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets no other thread do this
        for number in (signal.SIGINT, signal.SIGTERM):
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
