"""State and cost of each run of a study, read from the run directories under its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from vlm_lit.errors import VlmLitError
from vlm_lit.studies.reporting.report_costs import AdapterSize, adapter_size
from vlm_lit.studies.run_files.learning_curves import Curve, read_curves
from vlm_lit.studies.running.cell import Cell
from vlm_lit.studies.running.cell_record import CellRecord, measured, read_record
from vlm_lit.studies.running.digest import digests
from vlm_lit.studies.running.grid import cells
from vlm_lit.studies.running.study_file import Study

_MEMORY: Final = "train/peak_memory_gib"

State = Literal["done", "failed", "running", "missing", "outdated"]


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One setting with one seed. What is not known, because it is not finished or did not train, is None or empty.

    `measured` is the metric's own value, a fraction; `error` says why there is no score. Memory in training is the
    GPU's where there is one, that of the host what its processes held; both the most at any time.
    """

    cell: Cell
    folder: Path
    state: State
    error: str | None = None
    worker: str | None = None
    fit_seconds: float | None = None
    training_memory_mib: float | None = None
    host_memory_mib: float | None = None
    adapter: AdapterSize | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    measured: float | None = None


def read_study_runs(study: Study) -> list[StudyRun]:
    """Every run that the study asks for, in its order; those it was asked for before its settings changed are outdated.

    Raises:
        VlmLitError: a run says that it is finished and its files are missing or broken; names them.
    """
    asked = cells(study)
    now = digests(study, asked)
    return [_read(cell, study, now[cell.key]) for cell in asked]


def _read(cell: Cell, study: Study, digest: str) -> StudyRun:
    folder = cell.folder(study)
    record = read_record(folder)
    if record is None:
        return StudyRun(cell=cell, folder=folder, state="missing")
    if record.digest != digest:
        return StudyRun(cell=cell, folder=folder, state="outdated", error="was run with other settings")
    if record.status != "done":
        return StudyRun(cell=cell, folder=folder, state=record.status, error=record.error, worker=record.worker)
    return _finished(cell, folder, record, study.metric)


def _finished(cell: Cell, folder: Path, record: CellRecord, metric: str) -> StudyRun:
    if not (folder / "predictions.jsonl").is_file():
        raise VlmLitError(
            f"{folder}: cell.json says that this run is done, but there is no predictions.jsonl. Restore the file, or "
            "move the folder away and run the study again."
        )
    curves = read_curves(folder)
    return StudyRun(
        cell=cell,
        folder=folder,
        state="done",
        worker=record.worker or None,
        fit_seconds=record.seconds.get("fit"),
        training_memory_mib=max(curves[_MEMORY].values) * 1024 if _MEMORY in curves else None,
        host_memory_mib=record.peak_memory_mib,
        adapter=adapter_size(folder),
        curves=curves,
        measured=measured(folder, metric),
    )
