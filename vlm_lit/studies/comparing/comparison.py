"""Comparison of systems on the same items: means, pairs and groups, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from vlm_lit.metrics.catalogue import less_is_better
from vlm_lit.studies.comparing.alignment import AlignedItem, Alignment
from vlm_lit.studies.comparing.figures import FigureDifference, figure_differences
from vlm_lit.studies.estimates.bootstrap import FEWEST, BootstrapInterval, mean_difference_bootstrap
from vlm_lit.studies.estimates.significance import (
    DETECTABLE,
    McNemar,
    Tally,
    correlation,
    holm,
    holm_levels,
    mcnemar,
    tally,
)
from vlm_lit.studies.estimates.statistics import (
    ErrorKind,
    Interval,
    PairedDifference,
    at_level,
    cut,
    mean_interval,
    paired_difference,
)
from vlm_lit.studies.page_parts.wording import verdict
from vlm_lit.studies.run_files.systems import System

OVERALL: Final = "overall"


@dataclass(frozen=True, kw_only=True)
class Method:
    """How errors are computed: the clustered error's kind, and the bootstrap's draws and seed."""

    kind: ErrorKind = "cr1"
    resamples: int = FEWEST
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SystemStanding:
    """One system on the judged items: its mean score, and that mean's interval (None where all show one image)."""

    system: System
    mean: float
    interval: Interval | None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, cut where no mean score can be."""
        return cut((self.interval.low, self.interval.high), 0.0, 1.0) if self.interval else None


@dataclass(frozen=True, kw_only=True)
class SystemPair:
    """Two systems, by name, on `n` items of `clusters` images; differences are a - b, all fractions.

    `difference`, `p_holm` and `mde` (smallest difference found in four trials of five) are None where all items show
    one image. `figures` are those of the metric that are no means. Of a group, neither they nor `bootstrap` are
    computed. `p_holm` corrects for the pairs compared, in a group
    for the groups of that pair. `level` is that of the interval beside the verdict: 95 %, or more where Holm's
    procedure tests this pair more strictly. Of a metric where `less_is_better`, `tally` and `mcnemar` count the lower
    score as the win; differences are a - b all the same.
    """

    a: str
    b: str
    n: int
    clusters: int
    mean_a: float
    mean_b: float
    correlation: float | None
    difference: PairedDifference | None
    bootstrap: BootstrapInterval | None
    mcnemar: McNemar | None
    tally: Tally
    figures: tuple[FigureDifference, ...] = ()
    p_holm: float | None = None
    level: float = 0.95
    less_is_better: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """The one interval that is quoted: Student's t at `level`, cut where no difference can be.

        It leaves out 0 exactly where the verdict names a system.
        """
        if self.difference is None:
            return None
        found = at_level(self.difference, self.level)
        return cut((found.low, found.high), -1.0, 1.0)

    @property
    def gap(self) -> float:
        """The mean of a minus the mean of b."""
        return self.difference.difference if self.difference else self.mean_a - self.mean_b

    @property
    def mde(self) -> float | None:
        """The smallest true difference that would be detected with 80 % power."""
        return DETECTABLE * self.difference.se if self.difference else None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.tally.ties == self.n:
            return "no difference detectable (the same score on every item)"
        return verdict(
            self.a,
            self.b,
            difference=self.gap,
            p=self.difference.p if self.difference else None,
            p_corrected=self.p_holm,
            mde=self.mde,
            images=self.clusters,
            less_is_better=self.less_is_better,
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """The items with `value` of the breakdown `name`, as every pair sees them."""

    name: str
    value: str
    n: int
    pairs: tuple[SystemPair, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Systems on the same items. `judged` are the items that every scored system has a score for.

    Without scores, `standings`, `pairs` and `groups` are empty.
    """

    systems: tuple[System, ...]
    items: tuple[AlignedItem, ...]
    judged: tuple[AlignedItem, ...]
    dropped: int
    standings: tuple[SystemStanding, ...]
    pairs: tuple[SystemPair, ...]
    groups: tuple[Group, ...]
    method: Method

    @property
    def scored(self) -> tuple[int, ...]:
        """Positions of the systems that have scores."""
        return _scored(self.systems)

    @property
    def less_is_better(self) -> bool:
        """Whether a lower score is the better one by the systems' metric."""
        return _less_is_better(self.systems)

    @property
    def images(self) -> int:
        """How many images the items show."""
        return len({item.cluster for item in self.items})


def compare(systems: Sequence[System], aligned: Alignment, method: Method) -> Comparison:
    """Compute everything there is to say about systems on the same items."""
    scored = _scored(systems)
    judged = tuple(item for item in aligned.items if scored and all(item.scores[i] is not None for i in scored))
    couples = list(combinations(scored, 2)) if judged else []
    pairs = [_pair(systems, judged, couple, method, whole=True) for couple in couples]
    return Comparison(
        systems=tuple(systems),
        items=aligned.items,
        judged=judged,
        dropped=aligned.dropped,
        standings=tuple(_standing(systems[i], i, judged, method) for i in scored) if judged else (),
        pairs=tuple(_corrected(pairs)),
        groups=tuple(_groups(systems, judged, couples, method)),
        method=method,
    )


def _less_is_better(systems: Sequence[System]) -> bool:
    return any(less_is_better(system.metric) for system in systems if system.scores)


def _scored(systems: Sequence[System]) -> tuple[int, ...]:
    return tuple(index for index, system in enumerate(systems) if system.scores)


def _scores(items: Sequence[AlignedItem], index: int) -> list[float]:
    return [score for item in items if (score := item.scores[index]) is not None]


def _standing(system: System, index: int, items: Sequence[AlignedItem], method: Method) -> SystemStanding:
    scores, clusters = _scores(items, index), [item.cluster for item in items]
    several = len(set(clusters)) > 1
    interval = mean_interval(scores, clusters, kind=method.kind) if several else None
    return SystemStanding(system=system, mean=math.fsum(scores) / len(scores), interval=interval)


def _pair(
    systems: Sequence[System], items: Sequence[AlignedItem], couple: tuple[int, int], method: Method, *, whole: bool
) -> SystemPair:
    a, b = (_scores(items, index) for index in couple)
    first, second = (systems[index] for index in couple)
    clusters = [item.cluster for item in items]
    several = len(set(clusters)) > 1
    less = _less_is_better(systems)
    won = (b, a) if less else (a, b)
    pair = SystemPair(
        a=first.name,
        b=second.name,
        n=len(items),
        clusters=len(set(clusters)),
        mean_a=math.fsum(a) / len(a),
        mean_b=math.fsum(b) / len(b),
        correlation=correlation(a, b),
        difference=paired_difference(a, b, clusters, kind=method.kind) if several else None,
        bootstrap=None,
        mcnemar=mcnemar(*won),
        tally=tally(*won),
        less_is_better=less,
    )
    if not (whole and several):
        return pair
    ids, draws = [item.id for item in items], {"resamples": method.resamples, "seed": method.seed}
    return replace(
        pair,
        bootstrap=mean_difference_bootstrap([x - y for x, y in zip(a, b, strict=True)], clusters, **draws),
        figures=tuple(figure_differences(first, second, ids, clusters, **draws)),
    )


def _corrected(pairs: Sequence[SystemPair]) -> list[SystemPair]:
    """The pairs with `p_holm` and the intervals' `level`, as one family."""
    family = [pair.difference.p for pair in pairs if pair.difference]
    found = iter(zip(holm(family), holm_levels(family), strict=True))
    return [_at(pair, *next(found)) if pair.difference else pair for pair in pairs]


def _at(pair: SystemPair, p_holm: float, alpha: float) -> SystemPair:
    return replace(pair, p_holm=p_holm, level=1 - alpha)


def _groups(
    systems: Sequence[System], items: Sequence[AlignedItem], couples: Sequence[tuple[int, int]], method: Method
) -> list[Group]:
    members: dict[tuple[str, str], list[AlignedItem]] = {}
    for item in items:
        for name, value in item.groups.items():
            members.setdefault((name, value), []).append(item)
    keys = sorted(key for key in members if len(members[key]) < len(items))  # a group of everything says nothing new
    columns = [
        _corrected([_pair(systems, members[key], couple, method, whole=False) for key in keys]) for couple in couples
    ]
    return [
        Group(name=key[0], value=key[1], n=len(members[key]), pairs=tuple(column[row] for column in columns))
        for row, key in enumerate(keys)
    ]
