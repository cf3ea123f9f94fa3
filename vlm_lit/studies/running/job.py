"""Jobs in a study's queue: a cell of a grid, or a setting that a search drew, with all its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vlm_lit.studies.running.cell import Cell
from vlm_lit.studies.running.cell_record import CellRecord, read_record
from vlm_lit.studies.running.digest import digest_of, digests
from vlm_lit.studies.running.grid import cells
from vlm_lit.studies.running.study_file import Range, Study

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalChoiceType

SEED: Final = "seed"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Cells that are run one after the other by one worker; `digests` are theirs, by key."""

    name: str
    cells: tuple[Cell, ...]
    digests: Mapping[str, str]

    def parameters(self, study: Study) -> dict[str, object]:
        """What an Optuna trial shows of it: levels, drawn values, and a grid's seed."""
        first = self.cells[0]
        alone = {SEED: first.seed} if study.search is None else {}
        return {**first.levels, **first.parameters, **alone}

    def records(self, study: Study) -> list[CellRecord | None]:
        """For each cell its record, where it was made with the settings of now."""
        found = [read_record(cell.folder(study)) for cell in self.cells]
        return [
            record if record is not None and record.digest == self.digests[cell.key] else None
            for cell, record in zip(self.cells, found, strict=True)
        ]


def grid_jobs(study: Study) -> dict[str, Job]:
    """The jobs of a grid by name: one a cell."""
    all_cells = cells(study)
    found = digests(study, all_cells)
    return {cell.key: Job(name=cell.key, cells=(cell,), digests={cell.key: found[cell.key]}) for cell in all_cells}


def drawn_job(study: Study, drawn: Mapping[str, object]) -> Job:
    """The job for one setting of a search: the same for each seed."""
    factors = {factor.name for factor in study.factors}
    levels = {name: str(value) for name, value in drawn.items() if name in factors}
    parameters = {name: value for name, value in drawn.items() if name not in factors}
    seeds = tuple(Cell(levels=levels, seed=seed, parameters=parameters) for seed in study.seeds)
    return Job(name=seeds[0].name, cells=seeds, digests=digests(study, seeds))


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """From what each parameter of a trial is taken, in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution

    shapes: dict[str, BaseDistribution] = {
        factor.name: CategoricalDistribution([level.name for level in factor.levels]) for factor in study.factors
    }
    if study.search is None:
        return {**shapes, SEED: CategoricalDistribution(_choices(study.seeds))}
    return {**shapes, **{key: _distribution(span) for key, span in study.search.ranges.items()}}


def _choices(values: Iterable[int]) -> list[CategoricalChoiceType]:
    return list(values)


def _distribution(span: Range) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if span.whole:
        return IntDistribution(int(span.low), int(span.high), log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)


def version(study: Study, jobs: Mapping[str, Job]) -> str:
    """What Optuna calls the study: its name and a digest, another one where cells, settings or configs changed.

    Of a search's trials their number is left out: more of them continue the same search.
    """
    if study.search is None:
        content: object = [study.metric, [list(job.digests.items()) for job in jobs.values()]]
    else:
        # A factor's level stands for its configs and settings: any one cell with it tells whether these changed.
        probes = _probes(study)
        ranges = {key: vars(span) for key, span in study.search.ranges.items()}
        content = [study.metric, study.search.sampler, ranges, digests(study, probes)]
    return f"{study.name}-{digest_of(content)[:8]}"


def _probes(study: Study) -> list[Cell]:
    """Cells of which every level of every factor and every seed has one."""
    first = {factor.name: factor.levels[0].name for factor in study.factors}
    levels = [{**first, factor.name: level.name} for factor in study.factors for level in factor.levels]
    return [Cell(levels=chosen, seed=seed) for chosen in levels or [{}] for seed in study.seeds]
