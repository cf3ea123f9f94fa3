"""Record of a cell: how far it came (`cell.json`), and what it measured (the results beside it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from vlm_lit.errors import VlmLitError, nearest
from vlm_lit.files.strict_json import parse_json, read_json
from vlm_lit.files.whole import write_whole
from vlm_lit.studies.running.cell import Cell

FILE: Final = "cell.json"
_REMEDY: Final = "Move the folder away; the cell will be run anew."

Status = Literal["running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What is known of a cell beyond its results.

    `digest` is over the settings it ran with. `stage` is the verb that runs or ran last. `attempts` counts the starts;
    `seconds` are each verb's wall-clock time over all of them, but for what passed after the last note of one that
    was killed. `peak_memory_mib` is the largest resident set of its processes, in MiB of host memory. `started` and
    `finished` are in UTC.
    """

    study: str
    levels: Mapping[str, str]
    seed: int
    digest: str
    status: Status
    started: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    stage: Literal["fit", "test"] = "fit"
    attempts: int = 1
    error: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    worker: str = ""
    finished: str | None = None

    @property
    def cell(self) -> Cell:
        """The cell it tells about."""
        return Cell(levels=self.levels, seed=self.seed, parameters=self.parameters)


def read_record(folder: Path) -> CellRecord | None:
    """The record in a cell's run directory; None where there is none.

    Raises:
        VlmLitError: the file is there and is not such a record.
    """
    path = folder / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VlmLitError(f"{path}: cannot be read ({error.strerror}). {_REMEDY}") from error
    content = parse_json(data, path, remedy=_REMEDY, any_value=True)
    known = {entry.name for entry in fields(CellRecord)}
    needed = ("study", "levels", "seed", "digest", "status", "started")
    if not isinstance(content, dict) or not known.issuperset(content) or any(name not in content for name in needed):
        raise VlmLitError(f"{path}: is no record of a cell. {_REMEDY}")
    return CellRecord(**content)


def write_record(folder: Path, record: CellRecord) -> None:
    """Write the record whole: whoever reads sees the old one or the new one."""
    write_whole(folder / FILE, json.dumps(asdict(record), indent=2) + "\n")


def measured(folder: Path, metric: str) -> float:
    """The metric in the results of a run directory, a fraction.

    Raises:
        VlmLitError: there are no results, or no such metric in them.
    """
    path = folder / "results.json"
    content = read_json(path, remedy="Remove the file; the cell is then tested again.", any_value=True)
    metrics = content.get("metrics") if isinstance(content, dict) else None
    if not isinstance(metrics, dict):
        raise VlmLitError(f"{path}: holds no metrics. Remove the file; the cell is then tested again.")
    if metric not in metrics:
        near = nearest(metric, metrics)
        hint = f"Did you mean {near}?" if near else f"There are: {', '.join(metrics)}."
        raise VlmLitError(f"{path}: has no metric {metric}. {hint}")
    return float(metrics[metric])
