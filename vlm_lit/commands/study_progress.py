"""Progress line of a study: rewritten on a terminal, else a new line when a count changes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vlm_lit.studies.running.queue import Queue
    from vlm_lit.studies.running.standing import StudyProgress

_LOOK_EVERY: Final = 2.0  # seconds: a look reads every cell's record


class Progress:
    """The line, on stderr.

    Args:
        queue: whose cells are counted.
        chosen: the places that are; None for all.
        quiet: show nothing.
    """

    def __init__(self, queue: Queue, chosen: Collection[str] | None, *, quiet: bool) -> None:
        self.queue, self.chosen, self.quiet = queue, chosen, quiet
        self._looked = -_LOOK_EVERY
        self._shown: tuple[int, ...] = ()

    def tick(self) -> None:
        """Look again if it is time to."""
        from optuna.exceptions import StorageInternalError

        if not self.quiet and time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            # A database that is away for a while must not end a fit that is well.
            with suppress(StorageInternalError):
                self._show(self._standing())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.quiet:
            return
        if kind is None:
            self._show(self._standing())
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def _standing(self) -> StudyProgress:
        from vlm_lit.studies.running.standing import cell_states, standing

        states = self.queue.states()
        jobs = {place: self.queue.job(place) for place in states}
        return standing(cell_states(self.queue.study, jobs, states, self.chosen), self.queue.undrawn_cells())

    def _show(self, now: StudyProgress) -> None:
        text = now.as_text(self.queue.study.name)
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            print(f"\r\x1b[2K{text[: width - 1]}", end="", file=sys.stderr, flush=True)
        elif now.counts() != self._shown:
            print(text, file=sys.stderr, flush=True)
        self._shown = now.counts()
