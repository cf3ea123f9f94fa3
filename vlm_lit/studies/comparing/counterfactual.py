"""Counterfactual pairs of a comparison: a system is right on a pair when both of its answers are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from vlm_lit.studies.comparing.alignment import AlignedItem
from vlm_lit.studies.comparing.comparison import Comparison
from vlm_lit.studies.estimates.statistics import Interval, PairedDifference, cut, mean_interval, paired_difference
from vlm_lit.studies.page_parts.wording import bounds, p_value, percent, points

SIDES: Final = ("/first", "/second")
"""How the ids of a pair's two questions end; what stands before is the pair's own."""


@dataclass(frozen=True, kw_only=True)
class PairAccuracy:
    """One system on the pairs.

    Args:
        name: the system's.
        both: share of the pairs of which both answers are right.
        interval: of that, clustered by image; None where all are of one.
        same: share of the pairs that it answers alike, as who does not look must; None where answers are not known.
        single: mean score of the pairs' questions, one by one.
    """

    name: str
    both: float
    interval: Interval | None
    same: float | None
    single: float


@dataclass(frozen=True, kw_only=True)
class PairComparison:
    """Systems on counterfactual pairs: how many there are, each system, and the differences of two at a time."""

    pairs: int
    images: int
    systems: tuple[PairAccuracy, ...]
    differences: tuple[tuple[str, str, PairedDifference], ...]


def counterfactual(comparison: Comparison) -> PairComparison | None:
    """What a comparison says of counterfactual pairs; None where its items are in none.

    Right means the highest score, 1: half a right answer to one of two scenes shows nothing. A metric of which less is
    better calls no answer right, so of that nothing is said.
    """
    pairs = _pairs(comparison.judged)
    if not pairs or comparison.less_is_better:
        return None
    clusters = [first.cluster for first, _ in pairs]
    several = len(set(clusters)) > 1
    kind = comparison.method.kind
    right = {i: [float(_score(a, i) == 1.0 and _score(b, i) == 1.0) for a, b in pairs] for i in comparison.scored}
    name = {i: comparison.systems[i].name for i in comparison.scored}
    return PairComparison(
        pairs=len(pairs),
        images=len(set(clusters)),
        systems=tuple(
            PairAccuracy(
                name=name[i],
                both=math.fsum(right[i]) / len(pairs),
                interval=mean_interval(right[i], clusters, kind=kind) if several else None,
                same=_alike(pairs, i) if comparison.systems[i].answers else None,
                single=math.fsum(_score(item, i) for pair in pairs for item in pair) / (2 * len(pairs)),
            )
            for i in comparison.scored
        ),
        differences=tuple(
            (name[i], name[k], paired_difference(right[i], right[k], clusters, kind=kind))
            for i, k in combinations(comparison.scored, 2)
        )
        if several
        else (),
    )


def _pairs(items: Sequence[AlignedItem]) -> list[tuple[AlignedItem, AlignedItem]]:
    first, second = ({item.id.removesuffix(end): item for item in items if item.id.endswith(end)} for end in SIDES)
    return [(item, second[name]) for name, item in first.items() if name in second]


def _score(item: AlignedItem, system: int) -> float:
    score = item.scores[system]
    return 0.0 if score is None else score


def _alike(pairs: Sequence[tuple[AlignedItem, AlignedItem]], system: int) -> float:
    return sum(a.answers[system] == b.answers[system] for a, b in pairs) / len(pairs)


def sentences(found: PairComparison | None) -> Iterator[str]:
    """What a reader should know of the pairs."""
    if found is None:
        return
    for one in found.systems:
        interval = None if one.interval is None else cut((one.interval.low, one.interval.high), 0.0, 1.0)
        alike = "" if one.same is None else f"; the same answer to both scenes in {percent(one.same)} %"
        yield (
            f"Counterfactual pairs ({found.pairs:,} of {found.images:,} images): {one.name} has both answers right in "
            f"{percent(one.both)} % {bounds(interval, percent)}, a single one in {percent(one.single)} %{alike}."
        )
    for a, b, difference in found.differences:
        low, high = cut((difference.low, difference.high), -1.0, 1.0)
        yield (
            f"Counterfactual pairs: {a} minus {b}: {points(difference.difference)} points [{points(low)}, "
            f"{points(high)}], p {p_value(difference.p)}."
        )
