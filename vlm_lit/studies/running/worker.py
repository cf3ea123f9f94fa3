"""Worker of a study: takes the next job, runs it, says how it went, until no job waits or runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from vlm_lit.errors import ConfigError
from vlm_lit.studies.running.cell_run import COMMAND, CellError, CellRun
from vlm_lit.studies.running.digest import digests
from vlm_lit.studies.running.lease import Lease
from vlm_lit.studies.running.queue import Queue
from vlm_lit.studies.running.storage import Heartbeat

_LOOK_EVERY: Final = 0.2  # seconds between ticks while nothing can be had


@dataclass(kw_only=True)
class Worker:
    """One worker on a queue.

    `chosen` names the places it may work on, None for all. `on_tick` is called a few times a second, whatever happens.
    `command` is what stands in front of the verbs `fit` and `test`.
    """

    queue: Queue
    heartbeat: Heartbeat
    on_tick: Callable[[], None]
    chosen: Collection[str] | None = None
    command: Sequence[str] = COMMAND
    _beaten: float = field(default=0.0, init=False)

    def work(self, *, retry: bool = False) -> None:
        """Work until every job is done or failed, those of other workers included: theirs may come back.

        Raises:
            ConfigError: a config file was changed meanwhile.
        """
        self.queue.refill(retry=retry)
        while True:
            if (claim := self.queue.claim(self.chosen)) is not None:
                self._run(claim)
                continue
            self.queue.refill()
            if not self.queue.open_places(self.chosen):
                return
            self._rest()

    def _rest(self) -> None:
        # Half a beat: what somebody else lost is found soon after it can be.
        until = time.monotonic() + self.heartbeat.every / 2
        while time.monotonic() < until:
            self.on_tick()
            time.sleep(_LOOK_EVERY)

    def _run(self, claim: Lease) -> None:
        try:
            self._check_unchanged(claim)
            values = [self._cell_run(claim, index).run() for index in range(len(claim.job.cells))]
        except CellError as error:
            claim.fail(str(error))
        except BaseException:  # told to stop, or something that no other cell would survive
            claim.give_back()
            self.queue.refill()
            raise
        else:
            claim.finish(sum(values) / len(values))

    def _cell_run(self, claim: Lease, index: int) -> CellRun:
        cell = claim.job.cells[index]
        return CellRun(
            study=self.queue.study,
            cell=cell,
            digest=claim.job.digests[cell.key],
            worker=self.queue.worker,
            descriptor=claim.lock.descriptor,
            on_tick=lambda: self._tick(claim),
            command=self.command,
        )

    def _tick(self, claim: Lease) -> None:
        if time.monotonic() - self._beaten > self.heartbeat.every:
            self._beaten = time.monotonic()
            claim.beat()
        self.on_tick()

    def _check_unchanged(self, claim: Lease) -> None:
        """Refuse to run a cell under a digest that is not its own any more."""
        if digests(self.queue.study, claim.job.cells) != dict(claim.job.digests):
            raise ConfigError(
                f"{self.queue.study.file}: a config file of the study changed while its cells were being run. Start "
                "again: cells that the change concerns are run anew, the others are kept."
            )
