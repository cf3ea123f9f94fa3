"""Cells of a study: the whole grid, or those of a search that were begun."""

from __future__ import annotations

import itertools

from vlm_lit.studies.running.cell import Cell, arguments
from vlm_lit.studies.running.cell_record import CellRecord, read_record
from vlm_lit.studies.running.digest import digests
from vlm_lit.studies.running.study_file import Study

__all__ = ["Cell", "arguments", "cells"]


def cells(study: Study) -> tuple[Cell, ...]:
    """The cells of a study: its grid, or, where it searches, those that were begun, in order of their start."""
    return _grid(study) if study.search is None else _begun(study)


def _grid(study: Study) -> tuple[Cell, ...]:
    """Every combination of levels with every seed: the first factor changes slowest, the seed fastest."""
    names = [factor.name for factor in study.factors]
    combinations = itertools.product(*([level.name for level in factor.levels] for factor in study.factors))
    return tuple(
        Cell(levels=dict(zip(names, chosen, strict=True)), seed=seed) for chosen in combinations for seed in study.seeds
    )


def _begun(study: Study) -> tuple[Cell, ...]:
    folders = sorted((study.folder / "cells").glob("*/seed=*"))
    found = [read_record(folder) for folder in folders if folder.name.removeprefix("seed=").isdecimal()]
    possible = [record for record in found if record is not None and _possible(record, study)]
    now = digests(study, (record.cell for record in possible))
    same = [record for record in possible if record.digest == now[record.cell.key]]
    return tuple(record.cell for record in sorted(same, key=lambda record: record.started))


def _possible(record: CellRecord, study: Study) -> bool:
    """Whether the study as its file stands now could draw this cell: it has its factors, levels, ranges, seeds."""
    assert study.search is not None
    known = {factor.name: [level.name for level in factor.levels] for factor in study.factors}
    return (
        record.seed in study.seeds
        and record.levels.keys() == known.keys()
        and all(level in known[factor] for factor, level in record.levels.items())
        and record.parameters.keys() == study.search.ranges.keys()
    )
