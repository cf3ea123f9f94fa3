"""Execution of one cell: `fit`, from its last checkpoint if there is one, then `test`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from vlm_lit.errors import VlmLitError
from vlm_lit.studies.running.cell import Cell, arguments
from vlm_lit.studies.running.cell_record import CellRecord, measured, read_record, write_record
from vlm_lit.studies.running.child_process import run_child
from vlm_lit.studies.running.study_file import Study

_NOTE_EVERY: Final = 10.0  # seconds between two notes of the time that a running cell has taken

COMMAND: Final = (sys.executable, "-m", "vlm_lit")
"""What a user types in front of the verb."""

Verb = Literal["fit", "test"]


class CellError(VlmLitError):
    """A cell that ended without a result; its text is what its log said last."""


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """A cell about to be run by one worker.

    `descriptor` is inherited by its processes: as long as one of them lives, the lock on the cell is held. `on_tick`
    is called a few times a second. `command` is what stands in front of the verb.
    """

    study: Study
    cell: Cell
    digest: str
    worker: str
    descriptor: int
    on_tick: Callable[[], None]
    command: Sequence[str] = COMMAND

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.cell.folder(self.study)

    def run(self) -> float:
        """Run what is left of the cell; its metric.

        Raises:
            CellError: it ended without a result; its record says so as well.
        """
        record = read_record(self.folder)
        if record is not None and record.digest == self.digest and record.status == "done":
            return measured(self.folder, self.study.metric)
        record = self._begun(record)
        try:
            if record.stage == "fit":
                begun = any((self.folder / "checkpoints").glob("step-*.ckpt"))
                record = self._staged(record, "fit", ["--ckpt_path", "last"] if begun else [])
            record = self._staged(record, "test", ["--ckpt_path", "last"])
            value = measured(self.folder, self.study.metric)
        except VlmLitError as error:
            latest = read_record(self.folder) or record
            self._write(replace(latest, status="failed", error=str(error), finished=_now()))
            raise CellError(str(error)) from error
        self._write(replace(record, status="done", finished=_now()))
        return value

    def _begun(self, record: CellRecord | None) -> CellRecord:
        """The record of a cell that goes on, or that starts anew in an empty folder."""
        if record is None or record.digest != self.digest:
            set_aside(self.folder)
            record = CellRecord(
                study=self.study.name, levels=self.cell.levels, seed=self.cell.seed, digest=self.digest,
                parameters=self.cell.parameters, status="running", started=_now(), attempts=0,
            )  # fmt: skip
        again = replace(
            record, status="running", attempts=record.attempts + 1, error=None, finished=None, worker=self.worker
        )
        self._write(again)
        return again

    def _staged(self, record: CellRecord, verb: Verb, more: list[str]) -> CellRecord:
        """One verb in a process of its own; the record with what it cost."""
        record = replace(record, stage=verb)
        begin, noted = time.monotonic(), time.monotonic()

        def so_far() -> CellRecord:
            spent = record.seconds.get(verb, 0.0) + time.monotonic() - begin
            return replace(record, seconds={**record.seconds, verb: round(spent, 3)})

        def on_tick() -> None:
            nonlocal noted
            self.on_tick()
            if time.monotonic() - noted > _NOTE_EVERY:
                noted = time.monotonic()
                self._write(so_far())

        self._write(record)
        words = [*self.command, verb, *arguments(self.study, self.cell), *more]
        ended = run_child(words, self.folder / f"{verb}.log", on_tick=on_tick, keep=[self.descriptor])
        peak = max(record.peak_memory_mib or 0.0, round(ended.peak_memory_mib, 1))
        record = replace(so_far(), peak_memory_mib=peak)
        self._write(record)
        if ended.status != 0:
            raise CellError(f"{ended.last_words or 'It said nothing.'}\n{verb} ended with {_how(ended.status)}.")
        return record

    def _write(self, record: CellRecord) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder, record)


def set_aside(folder: Path) -> None:
    """Move what an earlier version of a cell left to `<folder>.stale-1`, `-2`, ...; nothing is deleted."""
    if not folder.exists():
        return
    number = 1
    while (target := folder.with_name(f"{folder.name}.stale-{number}")).exists():
        number += 1
    folder.rename(target)


def _how(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"signal {-status}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
