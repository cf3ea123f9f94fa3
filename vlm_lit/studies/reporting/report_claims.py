"""Verdicts on a study's claims, each from the interval of its difference.

The settings that match a claim's two sides are paired at equal levels of the other factors, the pairs are averaged
question by question and seed by seed, and the interval is that of `seed_statistics`, at 95 %. Claims stand for
themselves: they were written down before, and no correction is made for how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlm_lit.studies.estimates.seed_statistics import SeededMean, seeded_mean
from vlm_lit.studies.estimates.statistics import cut
from vlm_lit.studies.reporting.report_scores import StudyScores

if TYPE_CHECKING:
    from vlm_lit.studies.running.study_file import StudyClaim

Verdict = Literal["supported", "contradicted", "equivalent", "different", "undecided", "not tested"]
Levels = Mapping[str, str]
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class ClaimAnswer:
    """A claim, what the runs say to it, and from which of them.

    `pairs` are the settings set against each other over `seeds`, which all of them have; `left_out` are those that have
    no seed in common. `difference` is better - than, a fraction; None where nothing can be set against each other. By a
    metric where `less_is_better`, the claim is of a difference below 0.
    """

    claim: StudyClaim
    verdict: Verdict
    difference: SeededMean | None
    seeds: tuple[int, ...]
    pairs: tuple[Pair, ...]
    left_out: tuple[Pair, ...]
    less_is_better: bool = False

    @property
    def still_possible(self) -> float | None:
        """The largest difference, either way, that the interval does not exclude; a fraction."""
        return max(map(abs, self.interval)) if self.interval else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference, cut where none can be."""
        found = self.difference.interval if self.difference else None
        return found and cut(found, -1.0, 1.0)


def answer(
    claim: StudyClaim, settings: Mapping[str, Levels], scores: StudyScores, *, less_is_better: bool = False
) -> ClaimAnswer:
    """Judge a claim.

    Args:
        claim: says which levels are better than, or equal to, which others.
        settings: the levels of every setting of the study, by its name.
        scores: of the finished runs.
        less_is_better: whether the lower score is the better one.
    """
    planned = _pairs(claim, settings)
    finished = [pair for pair in planned if scores.seeds(*pair)]
    names = list(dict.fromkeys(name for pair in finished for name in pair))
    seeds = scores.seeds(*names) if names else ()
    difference = _difference(finished, seeds, scores) if seeds else None
    return ClaimAnswer(
        claim=claim,
        verdict=judged(claim, difference, less_is_better=less_is_better),
        difference=difference,
        seeds=seeds,
        pairs=tuple(finished) if seeds else (),
        left_out=tuple(pair for pair in planned if not seeds or pair not in finished),
        less_is_better=less_is_better,
    )


def judged(claim: StudyClaim, difference: SeededMean | None, *, less_is_better: bool = False) -> Verdict:
    """What an interval says: all of it must lie where the claim wants it, or where it does not."""
    interval = difference.interval if difference else None
    if interval is None:
        return "not tested"
    low, high = interval
    if claim.kind == "equal":
        if -claim.margin <= low and high <= claim.margin:
            return "equivalent"
        return "different" if low > claim.margin or high < -claim.margin else "undecided"
    if less_is_better:
        low, high = -high, -low
    if low > claim.margin:
        return "supported"
    return "contradicted" if high < claim.margin else "undecided"


def _pairs(claim: StudyClaim, settings: Mapping[str, Levels]) -> list[Pair]:
    """The settings of either side that agree in every factor the claim does not name."""
    named = {*claim.better, *claim.than}
    better, than = (_matching(side, settings) for side in (claim.better, claim.than))
    return [
        (one, other)
        for one in better
        for other in than
        if all(settings[one][factor] == settings[other][factor] for factor in settings[one] if factor not in named)
    ]


def _matching(side: Levels, settings: Mapping[str, Levels]) -> list[str]:
    return [name for name, levels in settings.items() if all(levels[factor] == level for factor, level in side.items())]


def _difference(pairs: Sequence[Pair], seeds: Sequence[int], scores: StudyScores) -> SeededMean:
    gaps = [scores.matrix(one, seeds) - scores.matrix(other, seeds) for one, other in pairs]
    return seeded_mean(np.mean(gaps, axis=0), scores.clusters)
