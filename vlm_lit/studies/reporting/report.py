"""Report of a study: each setting with its interval, cost and convergence, the best one, and the claims."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.catalogue import less_is_better
from vlm_lit.studies.estimates.seed_statistics import SeededMean, seeded_mean
from vlm_lit.studies.estimates.significance import holm, holm_levels
from vlm_lit.studies.estimates.statistics import cut
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, FEWEST_SEEDS, SIGNIFICANT
from vlm_lit.studies.reporting.report_claims import ClaimAnswer, answer
from vlm_lit.studies.reporting.report_convergence import Convergence, convergence, loss_window, target_loss
from vlm_lit.studies.reporting.report_costs import AdapterSize
from vlm_lit.studies.reporting.report_runs import StudyRun, read_study_runs
from vlm_lit.studies.reporting.report_scores import StudyScores, read_study_scores
from vlm_lit.studies.running.study_file import Study


@dataclass(frozen=True, kw_only=True)
class Versus:
    """A setting minus another over their common `seeds`, question by question; `p_holm` corrects for the family.

    `level` is that of the interval beside it: 95 %, or more where Holm's procedure tests this one more strictly.
    """

    name: str
    difference: SeededMean
    seeds: tuple[int, ...]
    p_holm: float | None = None
    level: float = 0.95

    @property
    def interval(self) -> tuple[float, float] | None:
        """The one interval that is quoted: it leaves out 0 exactly where `p_holm` finds a difference."""
        found = self.difference.at_level(self.level)
        return found and cut(found, -1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row: the runs that differ in their seed alone. Costs are means over the finished ones, None where unknown.

    `score` and `against_baseline` are None where no seed is finished, the latter also for the baseline itself.
    """

    name: str
    levels: Mapping[str, str]
    runs: tuple[StudyRun, ...]
    score: SeededMean | None
    against_baseline: Versus | None
    adapter: AdapterSize | None
    training_memory_mib: float | None
    host_memory_mib: float | None
    fit_seconds: float | None
    convergence: Convergence | None

    @property
    def finished(self) -> tuple[StudyRun, ...]:
        """The runs that have a score."""
        return tuple(run for run in self.runs if run.state == "done")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The setting with the best mean of `ranked` ones, minus each it shares a seed with; Holm over these.

    The best mean is the highest, or the lowest where `less_is_better` by the study's metric.
    """

    name: str
    others: tuple[Versus, ...]
    ranked: int
    less_is_better: bool = False

    @property
    def images(self) -> int:
        """How many images it was compared on; none where it was not."""
        return min((other.difference.images for other in self.others), default=0)

    @property
    def seeds(self) -> int:
        """The fewest seeds that it was compared over."""
        return min((len(other.seeds) for other in self.others), default=0)

    @property
    def is_evidence(self) -> bool:
        """Whether there were images and seeds enough to speak of other ones."""
        return self.images >= FEWEST_IMAGES and self.seeds >= FEWEST_SEEDS

    @property
    def is_ahead(self) -> bool:
        """Whether it is better than every other one on these images and seeds, corrected for their number."""
        return 0 < len(self.others) == self.ranked - 1 and all(
            other.p_holm is not None
            and other.p_holm <= SIGNIFICANT
            and (-other.difference.mean if self.less_is_better else other.difference.mean) > 0
            for other in self.others
        )

    @property
    def is_beyond_doubt(self) -> bool:
        """Whether it may be called better than every other one."""
        return self.is_ahead and self.is_evidence


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Everything the report says, as figures. `loss` is what convergence is timed to; `window` its smoothing."""

    study: Study
    settings: tuple[Setting, ...]
    baseline: str | None
    best: Best
    claims: tuple[ClaimAnswer, ...]
    scores: StudyScores
    loss: float | None
    window: int

    @property
    def metric(self) -> str:
        """What was measured, as results name it."""
        return self.study.metric

    @property
    def less_is_better(self) -> bool:
        """Whether a lower score is the better one by that metric."""
        return self.best.less_is_better

    @property
    def runs(self) -> tuple[StudyRun, ...]:
        """Every run the study asks for."""
        return tuple(run for setting in self.settings for run in setting.runs)

    @property
    def unfinished(self) -> tuple[StudyRun, ...]:
        """The runs without a score: missing, failed or running."""
        return tuple(run for run in self.runs if run.state != "done")

    @property
    def ranked(self) -> tuple[Setting, ...]:
        """The settings that have a score."""
        return tuple(setting for setting in self.settings if setting.score is not None)


def study_report(study: Study, *, loss: float | None = None) -> StudyReport:
    """Read a study's runs and work out what they say.

    Args:
        study: as its file has it.
        loss: the training loss whose reaching is timed; otherwise the one that the worst finished run ends at.

    Raises:
        VlmLitError: no run is finished, a finished one's files are broken, or runs were not asked the same.
    """
    runs = read_study_runs(study)
    done = {(run.cell.name, run.cell.seed): run for run in runs if run.state == "done"}
    if not done:
        counts = ", ".join(f"{sum(r.state == s for r in runs)} {s}" for s in ("missing", "running", "failed"))
        raise VlmLitError(f"{study.file}: no run is finished ({counts} of {len(runs)}). Run the study first.")
    scores = read_study_scores(
        study.metric,
        {key: run.folder for key, run in done.items()},
        {key: run.measured for key, run in done.items() if run.measured is not None},
    )
    curves = [run.curves for run in done.values()]
    target, window = loss if loss is not None else target_loss(curves), loss_window(curves)
    settings = [_setting(group, scores, target, window) for group in _by_setting(runs)]
    # What a search draws is no grid: no setting is the baseline, and no two differ in a claim's factors alone.
    is_grid, less = study.search is None, less_is_better(study.metric)
    baseline = next((s.name for s in settings if is_grid and s.levels == dict(study.baseline)), None)
    return StudyReport(
        study=study,
        settings=tuple(settings if baseline is None else _against(settings, baseline, scores)),
        baseline=baseline,
        best=_best(settings, scores, less_is_better=less),
        claims=tuple(
            answer(claim, {s.name: s.levels for s in settings if is_grid}, scores, less_is_better=less)
            for claim in study.claims
        ),
        scores=scores,
        loss=target,
        window=window,
    )


def _by_setting(runs: Sequence[StudyRun]) -> list[tuple[StudyRun, ...]]:
    groups: dict[str, list[StudyRun]] = {}
    for run in runs:
        groups.setdefault(run.cell.name, []).append(run)
    return [tuple(group) for group in groups.values()]


def _setting(runs: tuple[StudyRun, ...], scores: StudyScores, target: float | None, window: int) -> Setting:
    cell, done = runs[0].cell, [run for run in runs if run.state == "done"]
    seeds = scores.seeds(cell.name)
    return Setting(
        name=cell.name,
        levels=dict(cell.levels),
        runs=runs,
        score=seeded_mean(scores.matrix(cell.name, seeds), scores.clusters) if seeds else None,
        against_baseline=None,
        adapter=next((run.adapter for run in done if run.adapter is not None), None),
        training_memory_mib=_mean([run.training_memory_mib for run in done]),
        host_memory_mib=_mean([run.host_memory_mib for run in done]),
        fit_seconds=_mean([run.fit_seconds for run in done]),
        convergence=None if target is None else convergence([run.curves for run in done], target, window=window),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _against(settings: Sequence[Setting], baseline: str, scores: StudyScores) -> list[Setting]:
    """The settings with what each has over the baseline."""
    found = _family([(s.name, baseline) for s in settings if s.name != baseline], scores)
    by_name = {one: versus for (one, _), versus in found.items()}
    return [replace(setting, against_baseline=by_name.get(setting.name)) for setting in settings]


def _best(settings: Sequence[Setting], scores: StudyScores, *, less_is_better: bool) -> Best:
    ranked = [(setting.score.mean, setting.name) for setting in settings if setting.score is not None]
    name = (min if less_is_better else max)(ranked, key=lambda pair: pair[0])[1]
    found = _family([(name, other) for _, other in ranked if other != name], scores)
    return Best(name=name, others=tuple(found.values()), ranked=len(ranked), less_is_better=less_is_better)


def _family(pairs: Sequence[tuple[str, str]], scores: StudyScores) -> dict[tuple[str, str], Versus]:
    """First less second, for those with a common seed, corrected for how many there are."""
    found = {}
    for one, other in pairs:
        if seeds := scores.seeds(one, other):
            gap = scores.matrix(one, seeds) - scores.matrix(other, seeds)
            found[one, other] = Versus(name=other, difference=seeded_mean(gap, scores.clusters), seeds=seeds)
    tested = {key: versus.difference.p for key, versus in found.items() if versus.difference.p is not None}
    family = list(tested.values())
    for key, p, alpha in zip(tested, holm(family), holm_levels(family), strict=True):
        found[key] = replace(found[key], p_holm=p, level=1 - alpha)
    return found
