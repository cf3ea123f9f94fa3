"""Verdicts on retention: whether a tuned model lost more than is allowed on a benchmark, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Comparison, Group, Method, SystemPair, compare
from vlm_lit.studies.estimates.statistics import at_level, cut
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, bounds, percent, points
from vlm_lit.studies.run_files.systems import open_systems

TUNED: Final = "tuned"
BASE: Final = "base"
Kept = Literal["kept", "lost", "undecided"]
_ERROR: Final = 0.05
"""How often one interval or more of all benchmarks' may miss the truth."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRetention:
    """Tuned and base on one benchmark.

    Args:
        name: the benchmark's.
        comparison: the two, tuned first.
        benchmarks: how many there are in all: the intervals hold together.
        max_loss: largest loss of the mean score that is allowed, a fraction.
    """

    name: str
    comparison: Comparison
    benchmarks: int
    max_loss: float

    @property
    def pair(self) -> SystemPair:
        """Tuned against base."""
        return self.comparison.pairs[0]

    @property
    def _sign(self) -> int:
        return -1 if self.pair.less_is_better else 1

    @property
    def change(self) -> float:
        """Mean score of the tuned model minus that of the base, a fraction; above zero is better."""
        return self._sign * self.pair.gap

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of that change, with all benchmarks' together right in 19 of 20 cases; None where all show one image."""
        if self.pair.difference is None:
            return None
        found = at_level(self.pair.difference, 1 - _ERROR / self.benchmarks)
        return cut(self._turned((found.low, found.high)), -1.0, 1.0)

    def of_group(self, group: Group) -> tuple[float, tuple[float, float] | None]:
        """The change in a group of questions and its interval; above zero is better."""
        interval = group.pairs[0].interval
        return self._sign * group.pairs[0].gap, None if interval is None else self._turned(interval)

    def _turned(self, ends: tuple[float, float]) -> tuple[float, float]:
        low, high = sorted(self._sign * end for end in ends)
        return low, high

    @property
    def gained(self) -> int:
        """Items that the tuned model answers better."""
        return self.pair.tally.wins

    @property
    def lost(self) -> int:
        """Items that the base answers better."""
        return self.pair.tally.losses

    @property
    def kept(self) -> Kept:
        """Whether a loss above what is allowed is ruled out, is shown, or neither."""
        if self.interval is None or self.pair.clusters < FEWEST_IMAGES:
            return "undecided"
        low, high = self.interval
        return "kept" if low >= -self.max_loss else "lost" if high < -self.max_loss else "undecided"

    @property
    def verdict(self) -> str:
        """In words."""
        if self.interval is None or self.pair.clusters < FEWEST_IMAGES:
            return f"undecided: {self.pair.clusters} images are too few, {FEWEST_IMAGES} are needed"
        low, high = self.interval
        if self.kept == "undecided":
            return f"undecided: the loss may be up to {percent(max(0.0, -low))} points; more questions would tell"
        if self.kept == "lost":
            return f"lost: at least {percent(-high)} points"
        return "kept, and better" if low > 0 else f"kept: at most {percent(max(0.0, -low))} points lost"


@dataclass(frozen=True, kw_only=True)
class Retention:
    """A tuned model against its base on several benchmarks.

    Args:
        run: the tuned model's run.
        max_loss: largest loss on any of them that is allowed, a fraction.
        benchmarks: one after the other.
        missing: benchmarks that could not be had, with the reason.
    """

    run: str
    max_loss: float
    benchmarks: tuple[BenchmarkRetention, ...]
    missing: tuple[tuple[str, str], ...] = ()

    def named(self, kept: Kept) -> list[str]:
        """The benchmarks with a verdict."""
        return [one.name for one in self.benchmarks if one.kept == kept]

    @property
    def status(self) -> int:
        """Exit status: 0 where all is kept, 1 where something is lost, 3 where more questions are needed to tell."""
        return 1 if self.named("lost") else 3 if self.named("undecided") else 0

    @property
    def sentence(self) -> str:
        """The verdict on all of them."""
        allowed = f"more than {percent(self.max_loss)} points"
        if self.named("lost"):
            also = f" Undecided on {', '.join(self.named('undecided'))}." if self.named("undecided") else ""
            return f"The tuned model lost {allowed} on {', '.join(self.named('lost'))}.{also}"
        if self.named("undecided"):
            return f"Whether the tuned model lost {allowed} is undecided on {', '.join(self.named('undecided'))}."
        return f"The tuned model lost no {allowed} on any of {len(self.benchmarks)} benchmarks."


def retained(
    run: str,
    folders: Sequence[tuple[str, Path, Path]],
    *,
    max_loss: float,
    missing: Sequence[tuple[str, str]] = (),
) -> Retention:
    """Compare what was answered.

    Args:
        run: the tuned model's run.
        folders: of each benchmark its name, the tuned model's answers and the base's.
        max_loss: largest loss that is allowed, a fraction.
        missing: benchmarks that could not be had, with the reason.

    Raises:
        VlmLitError: a folder holds no answers, or the two were not asked the same.
    """
    found = []
    for name, tuned, base in folders:
        systems = open_systems([tuned, base], [TUNED, BASE])
        comparison = compare(systems, align(systems), Method())
        found.append(BenchmarkRetention(name=name, comparison=comparison, benchmarks=len(folders), max_loss=max_loss))
    return Retention(run=run, max_loss=max_loss, benchmarks=tuple(found), missing=tuple(missing))


def table(retention: Retention) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: each benchmark's means, change with interval, items gained and lost, verdict."""
    header: tuple[str, ...] = (
        "benchmark", "metric", "questions", "images", "base %", "tuned %", "change", "interval", "gained", "lost",
        "verdict",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (
            one.name,
            next((s.system.metric for s in one.comparison.standings if s.system.metric), "mean score"),
            f"{one.pair.n:,}",
            f"{one.pair.clusters:,}",
            percent(one.pair.mean_b),
            percent(one.pair.mean_a),
            points(one.change),
            bounds(one.interval, points) or "-",
            f"{one.gained:,}",
            f"{one.lost:,}",
            one.verdict,
        )
        for one in retention.benchmarks
    ]
    return header, rows


def as_json(retention: Retention) -> dict[str, object]:
    """The figures, for another program."""
    return {
        "run": retention.run,
        "max_loss": retention.max_loss,
        "status": retention.status,
        "verdict": retention.sentence,
        "benchmarks": [
            {
                "name": one.name,
                "questions": one.pair.n,
                "images": one.pair.clusters,
                "base": one.pair.mean_b,
                "tuned": one.pair.mean_a,
                "change": one.change,
                "interval": one.interval,
                "level": 1 - _ERROR / one.benchmarks,
                "gained": one.gained,
                "lost": one.lost,
                "kept": one.kept,
                "groups": [
                    {"name": g.name, "value": g.value, "questions": g.n, "change": change, "interval": interval}
                    for g in one.comparison.groups
                    for change, interval in [one.of_group(g)]
                ],
            }
            for one in retention.benchmarks
        ],
        "missing": [{"name": name, "why": why} for name, why in retention.missing],
    }  # fmt: skip
