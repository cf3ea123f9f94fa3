"""`study status`: where each cell of a study is, what it measured, why it failed. Nothing is started."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from vlm_lit.commands.options import OptionParser
from vlm_lit.errors import VlmLitError

if TYPE_CHECKING:
    from vlm_lit.studies.running.standing import CellState
    from vlm_lit.studies.running.study_file import Study


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options, look and print; the exit status."""
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the study's YAML file")
    parser.add_argument("--storage", metavar="URL", help="the queue's, where `study run` was given one")
    print(_status(parser.parse_args(arguments)))
    return 0


def _status(options: argparse.Namespace) -> str:
    from vlm_lit.studies.running.standing import standing
    from vlm_lit.studies.running.study_file import read_study

    study = read_study(options.file)
    found, undrawn = _found(study, options.storage)
    parameters = list(dict.fromkeys(name for one in found for name in one.cell.parameters))
    header = [*(factor.name for factor in study.factors), *parameters, "seed", "state", study.metric, "time", "error"]
    rows = [_row(study, one, parameters) for one in found]
    return f"{_table([header, *rows])}\n\n{standing(found, undrawn).as_text(study.name)}"


def _found(study: Study, storage: str | None) -> tuple[list[CellState], int]:
    """The cells as the queue and their records have them; by their records alone where there is no queue yet."""
    from vlm_lit.studies.running.job import grid_jobs
    from vlm_lit.studies.running.queue import NoQueueError, Queue
    from vlm_lit.studies.running.standing import cell_states
    from vlm_lit.studies.running.storage import Heartbeat, is_there, storage_url

    try:
        if is_there(storage_url(study.folder, storage)):
            with Queue(study, storage, heartbeat=Heartbeat(), worker="status", make=False) as queue:
                states = queue.states()
                jobs = {place: queue.job(place) for place in states}
                return cell_states(study, jobs, states), queue.undrawn_cells()
    except NoQueueError:
        pass
    if study.search is not None:
        return [], study.search.trials * len(study.seeds)
    return cell_states(study, grid_jobs(study), {}), 0


def _row(study: Study, one: CellState, parameters: Sequence[str]) -> list[str]:
    from vlm_lit.studies.running.standing import in_time

    drawn = [one.cell.parameters.get(name) for name in parameters]
    error = one.record.error if one.record is not None and one.state == "failed" else None
    return [
        *one.cell.levels.values(),
        *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in drawn),
        str(one.cell.seed),
        one.state,
        _metric(study, one),
        in_time(one.seconds) if one.seconds else "",
        _in_a_line(error or ""),
    ]


def _metric(study: Study, one: CellState) -> str:
    from vlm_lit.studies.running.cell_record import measured

    if one.state != "done":
        return ""
    try:
        return f"{measured(one.cell.folder(study), study.metric):.4f}"
    except VlmLitError:
        return "missing"


def _in_a_line(error: str) -> str:
    """What an error says: the line that says so, else the last but for the one with the exit status."""
    lines = error.split("\n")
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[max(0, len(lines) - 2)])
    return shorten(said.removeprefix("error: "), 160, placeholder=" ...")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
