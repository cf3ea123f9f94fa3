"""Queue of a study's jobs: Optuna trials that any number of workers share.

What is finished is told by the cells' own records; the queue tells who runs what. Every look at what lacks a place in
it happens under one lock and changes nothing where nothing is missing, so it may be done by anybody at any time, and
a worker that died in the middle of anything is made up for by the next one that looks.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from vlm_lit.errors import ConfigError
from vlm_lit.files.file_lock import FileLock
from vlm_lit.metrics.catalogue import less_is_better
from vlm_lit.studies.running.cell_record import measured
from vlm_lit.studies.running.job import Job, distributions, drawn_job, grid_jobs, version
from vlm_lit.studies.running.lease import ERROR, Lease
from vlm_lit.studies.running.storage import (
    FOLDER,
    Heartbeat,
    enqueue_lock,
    expected_warnings,
    open_storage,
    storage_url,
)
from vlm_lit.studies.running.study_file import Study

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


class NoQueueError(ConfigError):
    """Nobody has begun to work on this version of the study."""


State = Literal["waiting", "running", "done", "failed"]

_PLACE: Final = "cell"
_MACHINE: Final = "machine"


def this_machine() -> str:
    """What tells apart kernels, not names: two machines may share a name, two containers a kernel and its locks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()


class Queue:
    """The queue of a study as one worker sees it.

    Args:
        study: what is to be run.
        storage: URL of a PostgreSQL database; None for a file in the study's folder.
        heartbeat: how often a worker is heard of, and when it is given up.
        worker: what this one is called.
        machine: where it runs: a dead neighbour is known by its lock at once, a stranger by its silence.
        make: make the queue where it is not there.

    Raises:
        ConfigError: a config file or the database cannot be read; with `make` off, there is no queue.
    """

    def __init__(
        self,
        study: Study,
        storage: str | None,
        *,
        heartbeat: Heartbeat,
        worker: str,
        machine: str | None = None,
        make: bool = True,
    ) -> None:
        self.study, self.worker = study, worker
        self._machine = machine or this_machine()
        self._url = storage_url(study.folder, storage)
        self._storage = open_storage(self._url, heartbeat, self._lock())
        self.jobs = grid_jobs(study) if study.search is None else {}
        self.version = version(study, self.jobs)
        self._trials = self._made() if make else self._found()
        self._id = self._storage.get_study_id_from_name(self.version)

    def _made(self) -> optuna.Study:
        from optuna import create_study

        with self._lock(), expected_warnings():
            trials = create_study(
                study_name=self.version,
                storage=self._storage,
                direction="minimize" if less_is_better(self.study.metric) else "maximize",
                load_if_exists=True,
            )
            trials.set_metric_names([self.study.metric])
        return trials

    def _found(self) -> optuna.Study:
        from optuna import load_study

        try:
            return load_study(study_name=self.version, storage=self._storage)
        except KeyError as error:
            raise NoQueueError(f"{self.study.file}: nobody has begun to run this version of the study.") from error

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open to the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def refill(self, *, retry: bool = False) -> None:
        """Give a place to every job that has none and is not finished; with `retry`, also to those that failed."""
        with self._lock():
            self._fail_the_dead()
            latest = self._latest()
            for place in self.jobs if self.study.search is None else latest:
                self._place(place, latest.get(place), retry=retry)

    def claim(self, chosen: Collection[str] | None = None) -> Lease | None:
        """The next job that waits, now this worker's; None where none can be had. `chosen` names those it may be."""
        for trial in self._all("WAITING"):
            place = str(trial.user_attrs[_PLACE])
            if (chosen is None or place in chosen) and (claim := self._taken(trial, self._job(place, trial))):
                return claim
        return self._drawn() if self.study.search is not None else None

    def states(self) -> dict[str, State]:
        """Each job's state by the name of its place: a cell's key, or `draw 7` of a search."""
        latest = self._latest()
        places = list(self.jobs) if self.study.search is None else list(latest)
        return {place: _state(latest.get(place)) for place in places}

    def open_places(self, chosen: Collection[str] | None = None) -> int:
        """How many jobs wait or run, those that a search has not drawn yet among them."""
        asked = [state for place, state in self.states().items() if chosen is None or place in chosen]
        return sum(state in ("waiting", "running") for state in asked) + self._undrawn(len(asked))

    def undrawn_cells(self) -> int:
        """How many cells a search will have that are not known yet."""
        return self._undrawn(len(self.states())) * len(self.study.seeds)

    def _undrawn(self, drawn: int) -> int:
        return max(0, self.study.search.trials - drawn) if self.study.search is not None else 0

    def job(self, place: str) -> Job:
        """The job of a place that `states` named."""
        return self._job(place, None if place in self.jobs else self._latest()[place])

    def _lock(self) -> AbstractContextManager[object]:
        return enqueue_lock(self._url, self.study.folder, self.study.name)

    def _all(self, *states: str) -> list[FrozenTrial]:
        from optuna.trial import TrialState

        wanted = tuple(TrialState[state] for state in states) or None
        return self._storage.get_all_trials(self._id, deepcopy=False, states=wanted)

    def _latest(self) -> dict[str, FrozenTrial]:
        """The last trial of each place; a search's places in the order in which they were drawn."""
        trials = sorted(self._all(), key=lambda trial: trial.number)
        return {str(trial.user_attrs[_PLACE]): trial for trial in trials if _PLACE in trial.user_attrs}

    def _job(self, place: str, trial: FrozenTrial | None) -> Job:
        if place not in self.jobs:
            assert trial is not None
            self.jobs[place] = drawn_job(self.study, trial.params)
        return self.jobs[place]

    def _place(self, place: str, trial: FrozenTrial | None, *, retry: bool) -> None:
        state = _state(trial) if trial is not None and not _is_lost(trial) else None
        if state in ("waiting", "running"):
            return
        job = self._job(place, trial)
        records = job.records(self.study)
        failed = next((record for record in records if record is not None and record.status == "failed"), None)
        if all(record is not None and record.status == "done" for record in records):
            if state != "done":
                self._add(place, job, "COMPLETE", value=self._value(job))
        elif failed is None or retry:
            self._add(place, job, "WAITING")
        elif state != "failed":
            self._add(place, job, "FAIL", error=failed.error)

    def _value(self, job: Job) -> float:
        values = [measured(cell.folder(self.study), self.study.metric) for cell in job.cells]
        return sum(values) / len(values)

    def _add(self, place: str, job: Job, state: str, *, value: float | None = None, error: str | None = None) -> None:
        from optuna.trial import TrialState, create_trial

        attributes: dict[str, Any] = {_PLACE: place} | ({} if error is None else {ERROR: error})
        trial = create_trial(
            state=TrialState[state], value=value, params=job.parameters(self.study),
            distributions=distributions(self.study), user_attrs=attributes,
        )  # fmt: skip
        self._trials.add_trial(trial)

    def _fail_the_dead(self) -> None:
        """Mark as lost the trials whose workers died. The queue's lock must be held."""
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        with expected_warnings():
            fail_stale_trials(self._trials)
        for trial in self._all("RUNNING"):
            if _PLACE not in trial.user_attrs or self._is_dead_neighbour(trial):
                # Without a place: drawn under this lock by one who died before it could say so.
                self._storage.set_trial_state_values(self._number(trial), TrialState.FAIL)

    def _is_dead_neighbour(self, trial: FrozenTrial) -> bool:
        if trial.user_attrs.get(_MACHINE) != self._machine:
            return False
        lock = self._job_lock(self._job(str(trial.user_attrs[_PLACE]), trial))
        dead = lock.acquire(wait=False)
        lock.release()
        return dead

    def _taken(self, trial: FrozenTrial, job: Job) -> Lease | None:
        """A waiting trial made this worker's, unless another one was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        lock, number = self._job_lock(job), self._number(trial)
        if not lock.acquire(wait=False):
            return None
        taken = False
        with suppress(UpdateFinishedTrialError):
            self._storage.record_heartbeat(number)  # first: who dies behind the next line is missed by its silence
            taken = self._storage.set_trial_state_values(number, TrialState.RUNNING)
        if not taken:
            lock.release()
            return None
        return self._signed(Lease(job=job, lock=lock, trial=number, storage=self._storage))

    def _signed(self, claim: Lease) -> Lease:
        self._storage.set_trial_user_attr(claim.trial, "worker", self.worker)
        self._storage.set_trial_user_attr(claim.trial, _MACHINE, self._machine)
        return claim

    def _drawn(self) -> Lease | None:
        """A setting that nobody has drawn yet; None where the search has its number, or one waits for its turn."""
        assert self.study.search is not None
        with self._lock(), expected_warnings():
            self._fail_the_dead()
            drawn = len(self._latest())
            if drawn >= self.study.search.trials or self._all("WAITING"):
                return None
            self._trials.sampler = _sampler(self.study, drawn)
            asked = self._trials.ask(fixed_distributions=distributions(self.study))
            number = self._storage.get_trial_id_from_study_id_trial_number(self._id, asked.number)
            self._storage.record_heartbeat(number)
            asked.set_user_attr(_PLACE, f"draw {drawn}")
        job = self.jobs[f"draw {drawn}"] = drawn_job(self.study, asked.params)
        claim = Lease(job=job, lock=self._job_lock(job), trial=number, storage=self._storage)
        if claim.lock.acquire(wait=False):
            return self._signed(claim)
        claim.give_back()  # the same setting was drawn before and is being run
        return None

    def _job_lock(self, job: Job) -> FileLock:
        return FileLock(self.study.folder / FOLDER / f"{job.name.replace('/', ',')}.lock")

    def _number(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)


def _state(trial: FrozenTrial | None) -> State:
    if trial is None or _is_lost(trial):
        return "waiting"
    named: dict[str, State] = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "done", "FAIL": "failed"}
    return named[trial.state.name]


def _is_lost(trial: FrozenTrial) -> bool:
    """Whether it ended because its worker died or gave it back."""
    return trial.state.name == "FAIL" and ERROR not in trial.user_attrs


def _sampler(study: Study, drawn: int) -> Any:  # noqa: ANN401 - one of Optuna's
    """Another seed for each draw: workers that begin at once must not draw the same."""
    from optuna.samplers import RandomSampler, TPESampler

    assert study.search is not None
    seed = (study.seeds[0] * 1_000_003 + drawn) % 2**32
    if study.search.sampler == "random":
        return RandomSampler(seed=seed)
    # Every option is named: its defaults change between Optuna's versions, and the draws with them.
    return TPESampler(
        seed=seed,
        n_startup_trials=10,
        n_ei_candidates=24,
        multivariate=False,
        constant_liar=True,  # what others run counts as bad, so it is not drawn again
    )
