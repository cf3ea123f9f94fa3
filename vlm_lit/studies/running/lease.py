"""Claim of a worker on a job: held, finished, failed or given back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vlm_lit.files.file_lock import FileLock
from vlm_lit.studies.running.job import Job

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

ERROR: Final = "error"
"""The attribute of a trial that failed by itself; one that ended without was lost or given back."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A job that is this worker's, until it is finished, failed or given back. The lock is on its folders."""

    job: Job
    lock: FileLock
    trial: int
    storage: RDBStorage

    def beat(self) -> None:
        """Say that the job's worker lives."""
        from optuna.exceptions import StorageInternalError

        # A database that is away for a while must not end a fit of hours; the next beat may get through.
        with suppress(StorageInternalError):
            self.storage.record_heartbeat(self.trial)

    def finish(self, value: float) -> None:
        """The job is done."""
        self._end("COMPLETE", {}, [value])

    def fail(self, error: str) -> None:
        """The job failed by itself; only when it is asked for will it be tried again."""
        self._end("FAIL", {ERROR: error}, None)

    def give_back(self) -> None:
        """The job is unfinished, and anybody's: the next look at the queue gives it a new place."""
        self._end("FAIL", {}, None)

    def _end(self, state: str, attributes: Mapping[str, str], values: list[float] | None) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        # Where it was given to another in the meantime, that one finds the record of what we did.
        with suppress(UpdateFinishedTrialError):
            for name, text in attributes.items():
                self.storage.set_trial_user_attr(self.trial, name, text)
            self.storage.set_trial_state_values(self.trial, TrialState[state], values)
        self.lock.release()
