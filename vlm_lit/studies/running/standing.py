"""Progress of a study: the state of each cell, how many are in which, and the time left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vlm_lit.studies.running.cell import Cell
from vlm_lit.studies.running.cell_record import CellRecord
from vlm_lit.studies.running.job import Job
from vlm_lit.studies.running.queue import State
from vlm_lit.studies.running.study_file import Study


@dataclass(frozen=True, kw_only=True)
class CellState:
    """A cell, where it is, and its record, if there is one for the settings of now."""

    cell: Cell
    state: State
    record: CellRecord | None

    @property
    def seconds(self) -> float:
        """The wall-clock time its processes took so far."""
        return sum(self.record.seconds.values()) if self.record is not None else 0.0


def cell_states(
    study: Study, jobs: Mapping[str, Job], states: Mapping[str, State], chosen: Collection[str] | None = None
) -> list[CellState]:
    """The state of each cell, by what the queue says of its job and by its own record.

    Args:
        study: whose cells they are.
        jobs: by place in the queue.
        states: what the queue says; a job that it does not know waits.
        chosen: the places to look at; None for all.
    """
    return [
        CellState(cell=cell, state=_state(states.get(place, "waiting"), record), record=record)
        for place, job in jobs.items()
        if chosen is None or place in chosen
        for cell, record in zip(job.cells, job.records(study), strict=True)
    ]


def _state(job: State, record: CellRecord | None) -> State:
    if record is not None and record.status == "done":
        return "done"
    if job == "running" and record is not None and record.status == "running":
        return "running"
    if job != "running" and record is not None and record.status == "failed":
        return "failed"
    return "waiting"


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """How many cells are in which state; seconds a finished one took on average, and seconds left, where known."""

    done: int
    failed: int
    running: int
    waiting: int
    seconds_a_cell: float | None
    seconds_left: float | None

    def as_text(self, name: str) -> str:
        """One line."""
        parts = [f"{name}: {self.done} of {self.done + self.failed + self.running + self.waiting} cells done"]
        others = ("failed", self.failed), ("running", self.running), ("waiting", self.waiting)
        parts += [f"{count} {what}" for what, count in others if count]
        if self.seconds_a_cell is not None:
            parts.append(f"{in_time(self.seconds_a_cell)} a cell")
        if self.seconds_left:
            parts.append(f"about {in_time(self.seconds_left)} left")
        return ", ".join(parts)

    def counts(self) -> tuple[int, ...]:
        """What is worth a new line where lines stay."""
        return self.done, self.failed, self.running, self.waiting


def standing(found: Collection[CellState], undrawn: int = 0) -> StudyProgress:
    """Count cells; `undrawn` are those that a search will draw yet."""
    by_state = {
        state: [one for one in found if one.state == state] for state in ("done", "failed", "running", "waiting")
    }
    done, running = by_state["done"], by_state["running"]
    waiting = len(by_state["waiting"]) + undrawn
    mean = sum(one.seconds for one in done) / len(done) if done else None
    left = None
    if mean is not None and (running or waiting):
        # As if as many workers went on as run now; a cell that takes longer than the mean is taken to end soon.
        rest = mean * waiting + sum(max(0.0, mean - one.seconds) for one in running)
        left = rest / max(1, len(running))
    return StudyProgress(
        done=len(done), failed=len(by_state["failed"]), running=len(running), waiting=waiting, seconds_a_cell=mean,
        seconds_left=left,
    )  # fmt: skip


def in_time(seconds: float) -> str:
    """A length of time as people say it: 8 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
