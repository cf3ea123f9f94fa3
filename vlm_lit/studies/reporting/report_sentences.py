"""Sentences of a study's report: what is unfinished, what is best, what learns fastest, and the limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vlm_lit.studies.comparing.headline import no_evidence_of_images, no_evidence_of_seeds
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, FEWEST_SEEDS, SIGNIFICANT, decimal, p_value, percent
from vlm_lit.studies.reporting.report import Setting, StudyReport
from vlm_lit.studies.reporting.report_convergence import Convergence
from vlm_lit.studies.reporting.report_scores import run_name

_MOST_NAMED: Final = 8
_SHORTEST: Final = 0.1  # seconds that are shown


def findings(report: StudyReport) -> list[str]:
    """What was found: whether all is there, the best setting, the fastest and the lowest loss."""
    return [*_unfinished(report), *_no_evidence(report), *_best(report), *_convergence(report)]


def limits(report: StudyReport) -> list[str]:
    """What a reader must know before believing it."""
    parts = (_direction, _search, _seeds, _questions, _figures, _clock)
    return [line for part in parts for line in part(report)]


def _direction(report: StudyReport) -> Iterator[str]:
    if report.less_is_better:
        yield f"Lower is better by {report.metric}."


def _unfinished(report: StudyReport) -> Iterator[str]:
    if report.unfinished:
        states = [run.state for run in report.unfinished]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        yield (
            f"The study is unfinished: {len(report.unfinished)} of {len(report.runs)} runs have no score ({counts}). "
            "All figures are of the others."
        )


def _no_evidence(report: StudyReport) -> Iterator[str]:
    """What so few images or seeds say nothing about."""
    if not report.best.others:
        return
    if report.best.images < FEWEST_IMAGES:
        yield no_evidence_of_images(report.best.images)
    if report.best.seeds < FEWEST_SEEDS:
        yield no_evidence_of_seeds(report.best.seeds)


def _best(report: StudyReport) -> Iterator[str]:
    best = next(setting for setting in report.settings if setting.name == report.best.name)
    assert best.score is not None
    mean = f"{percent(best.score.mean)} %"
    first = "lowest" if report.less_is_better else "highest"
    if not report.best.others:
        other = "it shares no seed with another setting" if report.best.ranked > 1 else "no other setting has a score"
        yield f"{best.name} scores {mean}; {other}, so none is called best."
        return
    tested = [other.p_holm for other in report.best.others if other.p_holm is not None]
    if report.best.is_beyond_doubt:
        yield (
            f"{best.name} is best with {mean}: better than every other setting, the largest p after Holm's correction "
            f"for {_comparisons(len(tested))} being {p_value(max(tested))}."
        )
        return
    if report.best.is_ahead:
        yield f"{best.name} has the {first} mean, {mean}. None is called best, and none is in bold: see above."
        return
    rivals = [other.name for other in report.best.others if other.p_holm is None or other.p_holm > SIGNIFICANT]
    rivals += _without_common_seed(report)
    yield (
        f"No setting is best beyond doubt, so none is in bold: {best.name} has the {first} mean, {mean}, and cannot be "
        f"told from {_listed(rivals)} (Holm's correction for {_comparisons(len(report.best.others))})."
    )


def _comparisons(n: int) -> str:
    return f"{n} comparisons" if n > 1 else "one comparison"


def _without_common_seed(report: StudyReport) -> list[str]:
    compared = {other.name for other in report.best.others} | {report.best.name}
    return [setting.name for setting in report.ranked if setting.name not in compared]


def _convergence(report: StudyReport) -> Iterator[str]:
    learned = [(s, s.convergence) for s in report.ranked if s.convergence is not None]
    if report.loss is None or not learned:
        return
    there = [(s, c) for s, c in learned if c.is_reached]
    lowest, ends = min(learned, key=lambda pair: pair[1].final_loss)
    end = f"at a training loss of {decimal(ends.final_loss)}."
    if not there:
        yield (
            f"No setting comes down to a training loss of {decimal(report.loss)} with every seed; {lowest.name} ends "
            f"lowest, {end}"
        )
        return
    steps, fewest = _least(there, "steps")
    seconds, shortest = _least(there, "seconds")
    first = f"{steps} in the fewest steps, {fewest:,.0f}, and "
    second = f"{'' if seconds == steps else f'{seconds} '}in the least time, {duration(shortest)}"
    yield (
        f"First at a training loss of {decimal(report.loss)}: {first}{second}; "
        f"{'it also' if lowest.name == steps == seconds else lowest.name} ends lowest, {end}"
    )


def _least(learned: Sequence[tuple[Setting, Convergence]], name: str) -> tuple[str, float]:
    """Which settings have the least of something, and how much."""
    least = min(getattr(found, name) for _, found in learned)
    return _listed([setting.name for setting, found in learned if getattr(found, name) == least]), least


def duration(seconds: float) -> str:
    """`12 s`; what began at the first logged step, from which time is counted, took no time that is known."""
    if seconds == 0:
        return "at the first logged step"
    if seconds < _SHORTEST:
        return f"under {_SHORTEST} s"
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _search(report: StudyReport) -> Iterator[str]:
    if report.study.search is not None:
        yield (
            "The settings were drawn by a search that looks at the scores: the best one's score is flattered by being "
            "the best of many, there is no baseline, and claims are not tested. Train the best anew with other seeds."
        )


def _seeds(report: StudyReport) -> Iterator[str]:
    finished = {setting.name: report.scores.seeds(setting.name) for setting in report.ranked}
    if all(len(seeds) == 1 for seeds in finished.values()):
        yield "One seed of each setting: intervals and p values hold the choice of images, not the noise of training."
    elif any(len(seeds) == 1 for seeds in finished.values()):
        single = [name for name, seeds in finished.items() if len(seeds) == 1]
        yield f"With one seed, intervals hold no noise of training: {_listed(single)}."
    if len(set(finished.values())) > 1:
        lacking = [
            f"{setting.name} {', '.join(str(run.cell.seed) for run in setting.runs if run.state != 'done')}"
            for setting in report.ranked
            if len(setting.finished) < len(setting.runs)
        ]
        yield (
            "Not every setting has every seed; differences are over those that both have. Lacking: "
            f"{_listed(lacking, '; ')}."
        )


def _questions(report: StudyReport) -> Iterator[str]:
    images = report.scores.images
    if images == 1:
        yield "All questions show one image: what that says about other images cannot be estimated, so no intervals."
    elif images < FEWEST_IMAGES:
        yield f"Only {images} images: the intervals are rough, and other images may well fall outside them."
    if images > 1 and any(s.score.se == 0 for s in report.ranked if s.score):
        yield "An interval of no width says that the images agree, not that the value is certain."
    if report.scores.unjudged:
        yield f"Questions that lack a score in some run and enter no figure: {report.scores.unjudged:,}."


def _figures(report: StudyReport) -> Iterator[str]:
    apart = [f"{run_name(key)} {percent(figure)}" for key, figure in report.scores.own_figures.items()]
    if apart:
        yield (
            f"The metric's own figure ({_listed(apart)}) is not the mean of the question scores; means and differences "
            "here are of the question scores."
        )


def _clock(report: StudyReport) -> Iterator[str]:
    workers = dict.fromkeys(run.worker for run in report.runs if run.state == "done" and run.worker)
    if len(workers) > 1:
        yield f"Different workers ran the study ({_listed(list(workers))}), so seconds compare machines as well."


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return between.join(names[:_MOST_NAMED]) + more


def best_position(report: StudyReport) -> frozenset[int]:
    """Where the setting to be shown in bold stands among `report.settings`, if there is one."""
    best = report.best.name if report.best.is_beyond_doubt else None
    return frozenset(place for place, setting in enumerate(report.settings) if setting.name == best)
