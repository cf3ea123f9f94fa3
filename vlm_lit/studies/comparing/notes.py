"""Notes of a comparison: its limits and oddities, a sentence each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Final

from vlm_lit.studies.comparing.comparison import Comparison
from vlm_lit.studies.comparing.counterfactual import counterfactual, sentences
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, percent, points
from vlm_lit.studies.run_files.facts import AS_THEY_ARE, NEVER_NULL

_SAME: Final = (
    "max new tokens", "answer schema", "answer from", "sampling", "image processor", *NEVER_NULL, "prompt",
    "system prompt", "data",
)  # fmt: skip
"""What a fair comparison keeps."""
_ROUNDING: Final = 1e-6
_APART: Final = 0.2  # of an interval's width; what is closer reads the same
_BLIND: Final = {"blank": "With blank pictures", "shuffled": "With shuffled pictures", "dropped": "Without pictures"}


def notes(comparison: Comparison) -> list[str]:
    """Sentences in plain words, the most important first."""
    return [
        *_direction(comparison),
        *_left_out(comparison),
        *_blind(comparison),
        *sentences(counterfactual(comparison)),
        *_not_alike(comparison),
        *_own_figures(comparison),
        *_unread(comparison),
        *_images(comparison),
        *_two_intervals(comparison),
        *_seeds(comparison),
    ]


def _direction(comparison: Comparison) -> Iterator[str]:
    if comparison.standings and comparison.less_is_better:
        yield "Lower is better by this metric; a win is the lower score."


def _left_out(comparison: Comparison) -> Iterator[str]:
    if comparison.dropped:
        yield (
            f"Ids that not every system has, left out: {comparison.dropped:,}; items that remain: "
            f"{len(comparison.items):,}."
        )
    if not comparison.standings:
        having = "the files hold no scores" if not comparison.scored else "no item has a score from every judged system"
        yield f"Nothing is tested: {having}."
        return
    unscored = [system.name for system in comparison.systems if not system.scores]
    if unscored:
        yield f"Without scores, hence shown only: {', '.join(unscored)}."
    missing = len(comparison.items) - len(comparison.judged)
    if missing:
        yield f"Items that lack a score and enter no figure: {missing:,}."
    if not any(item.groups for item in comparison.items):
        yield "The files do not say which group an item belongs to, so there is no breakdown."


def _blind(comparison: Comparison) -> Iterator[str]:
    """How much of a system's score is gone where the same weights do not see the images."""
    shown = [(standing, standing.system.facts.shown) for standing in comparison.standings]
    for blind, how in shown:
        for sighted, facts in shown:
            if how.get("images") not in _BLIND or facts.get("images") != AS_THEY_ARE or not _same_weights(how, facts):
                continue
            worse = "higher" if comparison.less_is_better else "lower"
            needed = blind.mean - sighted.mean if comparison.less_is_better else sighted.mean - blind.mean
            score = f"{_BLIND[how['images']]} the score is {percent(blind.mean)} ({blind.system.name})"
            whole = f"{percent(sighted.mean)} ({sighted.system.name})"
            if needed > 0:
                yield f"{score}: {percent(needed)} points of {whole} need the picture."
            else:
                yield f"{score}, no {worse} than {whole}: nothing here shows that the picture is needed."


def _same_weights(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """As far as a run's files tell: one base, trained in both runs or in neither, and no two adapters."""
    adapters = {facts["adapter"] for facts in (one, other) if "adapter" in facts}
    trained = {"adapter" in facts or facts.get("optimizer steps", "0") != "0" for facts in (one, other)}
    return one.get("model") == other.get("model") and len(adapters) < 2 and len(trained) == 1


def _not_alike(comparison: Comparison) -> Iterator[str]:
    for name in _SAME:
        values = {
            s.name: s.facts.shown.get(name, "not set")
            for s in comparison.systems
            if s.facts.shown and (name in s.facts.shown or name not in NEVER_NULL)
        }
        if len(set(values.values())) > 1:
            yield f"Not run alike: {name} is {'; '.join(f'{v} ({system})' for system, v in values.items())}."


def _own_figures(comparison: Comparison) -> Iterator[str]:
    apart = [
        f"{standing.system.name} {percent(standing.system.overall)}"
        for standing in comparison.standings
        if standing.system.overall is not None and abs(standing.system.overall - standing.mean) > _ROUNDING
    ]
    if apart:
        yield (
            f"The metric's own figure ({', '.join(apart)}) is not the mean of the item scores; "
            "means and differences here are of the item scores."
        )


def _unread(comparison: Comparison) -> Iterator[str]:
    unread = [f"{s.name} {s.unparsed:,}" for s in comparison.systems if s.unparsed]
    if unread:
        yield f"Answers that the metric could not read: {', '.join(unread)}."


def _images(comparison: Comparison) -> Iterator[str]:
    clusters = len({item.cluster for item in comparison.judged})
    if comparison.judged and not any(item.shows_image for item in comparison.judged):
        yield (
            "The files do not say which items show one picture: each counts as an image of its own, and where pictures "
            "are shared the intervals are too narrow."
        )
    if clusters == 1:
        yield "All judged items show one image: what that says about other images cannot be estimated, so no intervals."
    elif 1 < clusters < FEWEST_IMAGES:
        yield f"Only {clusters} images: the intervals are rough, and other images may well fall outside them."
    if any(pair.difference and pair.difference.se == 0 and pair.gap for pair in comparison.pairs):
        yield "An interval of no width says that the images agree, not that the value is certain."


def _two_intervals(comparison: Comparison) -> Iterator[str]:
    """Where the bootstrap says something else than Student's t, and which of them is quoted."""
    for pair in comparison.pairs:
        found, draws = pair.difference, pair.bootstrap
        if found is None or draws is None:
            continue
        if found.low < -1 or found.high > 1:
            yield (
                f"{pair.a} - {pair.b}: Student's t reaches beyond 100 points, where no difference can be; the interval "
                "is cut there."
            )
        low, high = max(found.low, -1.0), min(found.high, 1.0)
        apart = max(abs(low - draws.low), abs(high - draws.high)) > _APART * (high - low)
        if apart or (low <= 0 <= high) != (draws.low <= 0 <= draws.high):
            yield (
                f"{pair.a} - {pair.b}: two methods differ. Student's t gives {points(low)} to {points(high)} and is "
                f"quoted; the bootstrap gives {points(draws.low)} to {points(draws.high)}. Student's t allows for the "
                f"spread being known from {pair.clusters} images only, the bootstrap does not (95 %, this pair alone)."
            )


def _seeds(comparison: Comparison) -> Iterator[str]:
    """Runs whose configs differ in the seed alone are seeds of one course."""
    if not comparison.standings:
        return
    courses: dict[str, dict[str, tuple[str, float]]] = {}
    for standing in comparison.standings:
        facts = standing.system.facts
        if facts.seed is not None and facts.course is not None:
            courses.setdefault(facts.course, {})[facts.seed] = (standing.system.name, standing.mean)
    for runs in courses.values():
        if len(runs) > 1:
            names, means = zip(*runs.values(), strict=True)
            yield (
                f"Seeds of one course: {', '.join(names)} (seeds {', '.join(runs)}), mean "
                f"{percent(statistics.fmean(means))}, standard deviation {100 * statistics.stdev(means):.1f} points."
            )
