"""Bootstrap intervals for differences of F1 or BLEU, which are no means of item scores.

The metric is asked again for each item's counts, drawn clusters add theirs up, and the metric says what the sums mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer, Counts, Rule
from vlm_lit.schema import Prediction
from vlm_lit.studies.estimates.bootstrap import BootstrapInterval, Floats, bootstrap
from vlm_lit.studies.run_files.systems import System

_ROUNDING: Final = 1e-9  # far above that of a mean of fractions, far below a difference worth telling


@dataclass(frozen=True, kw_only=True)
class FigureDifference:
    """A metric's figure of two systems, a - b, and the bootstrap interval of that; fractions unless `in_units`."""

    name: str
    a: float
    b: float
    difference: float
    interval: BootstrapInterval
    in_units: bool = False


def figure_differences(
    a: System, b: System, ids: Sequence[str], clusters: Sequence[Hashable], *, resamples: int, seed: int
) -> list[FigureDifference]:
    """Every figure of the systems' metric that is not a mean over items, or that it wants compared besides.

    Empty where the metric has none, or where its options or the answers behind the scores are not known.

    Args:
        a: the first system.
        b: the second one, judged by the same metric.
        ids: the items [n].
        clusters: the image of each.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    judge = next((found for system in (a, b) if (found := _rule(system)) is not None), None)
    if judge is None:
        return []
    counts = [_counts(judge, system, ids) for system in (a, b)]
    if counts[0] is None or counts[1] is None:
        return []
    columns = np.concatenate([*counts, np.ones((len(ids), 1))], axis=1)
    given = judge.values(list(columns[0, : judge.columns]), 1)
    wanted = (name for name in given if judge.compares_details and name != "overall")
    names = dict.fromkeys([*wanted, *(name for name in given if _is_no_mean(judge, columns, name))])
    return [_difference(judge, columns, clusters, name, resamples, seed) for name in names]


def _rule(system: System) -> Rule | None:
    """The definition behind a system's scores, if it has more to say than their mean."""
    title, has_options, _ = (system.metric or "").partition("[")
    asked = [(title, system.options)] if system.options or not has_options else system.facts.judges
    for name, options in asked:
        try:
            found = rule(name, options)
        except VlmLitError:  # a metric of the user's own, or of a file that is not here
            continue
        if system.options or found.name == system.metric or not has_options:
            return found if found.columns > 1 and found.is_score else None
    return None


def _counts(judge: Rule, system: System, ids: Sequence[str]) -> Floats | None:
    """Each item's counts [n, columns]; None where these are not the answers that were judged."""
    if not all(key in system.answers for key in ids):
        return None
    rows = [_counted(judge, system.answers[key]) for key in ids]
    for key, row in zip(ids, rows, strict=True):
        score = None if row is None else judge.score_of(row)
        if score is None or abs(score - system.scores[key]) > _ROUNDING:
            return None
    return np.array(rows, float)


def _counted(judge: Rule, item: Prediction) -> Counts | None:
    try:
        return judge.counts(Answer(item.prediction, item.references, item.id, groups=item.groups))
    except VlmLitError:
        return None


def _is_no_mean(judge: Rule, columns: Floats, name: str) -> bool:
    width = judge.columns
    for half in (columns[:, :width], columns[:, width : 2 * width]):
        whole = judge.values(list(half.sum(axis=0)), len(half))[name]
        mean = sum(judge.values(list(row), 1)[name] for row in half) / len(half)
        if abs(whole - mean) > _ROUNDING:
            return True
    return False


def _difference(
    judge: Rule, columns: Floats, clusters: Sequence[Hashable], name: str, resamples: int, seed: int
) -> FigureDifference:
    width = judge.columns

    def figures(sums: Floats) -> tuple[float, float]:
        n = round(sums[-1])
        return judge.values(list(sums[:width]), n)[name], judge.values(list(sums[width:-1]), n)[name]

    def differences(sums: Floats) -> Floats:
        return np.array([a - b for a, b in map(figures, sums)])

    a, b = figures(columns.sum(axis=0))
    interval = bootstrap(columns, clusters, differences, resamples=resamples, seed=seed)
    in_units = name in judge.in_units
    return FigureDifference(name=name, a=a, b=b, difference=a - b, interval=interval, in_units=in_units)
