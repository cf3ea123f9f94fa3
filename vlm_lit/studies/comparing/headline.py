"""Headline of a comparison: whether so few images and seeds are evidence, then a sentence for each pair."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_lit.studies.comparing.comparison import Comparison
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, FEWEST_SEEDS, sentence

UNTRAINED = "0"


def headline(comparison: Comparison) -> list[str]:
    """What it is no evidence of, then a sentence for each pair."""
    if not comparison.pairs:
        return []
    return [*_few_images(comparison), *_few_seeds(comparison), *_sentences(comparison)]


def _few_images(comparison: Comparison) -> Iterator[str]:
    images = len({item.cluster for item in comparison.judged})
    if images < FEWEST_IMAGES:
        yield no_evidence_of_images(images)


def no_evidence_of_images(images: int) -> str:
    """What fewer images than are needed do not show."""
    only = f"only {images} images were" if images > 1 else "only one image was"
    return (
        f"This is no evidence: {only} asked about. It takes {FEWEST_IMAGES} or more to say anything about other images."
    )


def _few_seeds(comparison: Comparison) -> Iterator[str]:
    """Of what was trained; a base as it is has no seed."""
    seeds: dict[str, set[str]] = {}
    for standing in comparison.standings:
        facts = standing.system.facts
        if facts.seed is not None and facts.course is not None and facts.shown.get("optimizer steps") != UNTRAINED:
            seeds.setdefault(facts.course, set()).add(facts.seed)
    fewest = min(map(len, seeds.values()), default=FEWEST_SEEDS)
    if fewest < FEWEST_SEEDS:
        yield no_evidence_of_seeds(fewest)


def no_evidence_of_seeds(seeds: int) -> str:
    """What fewer seeds than are needed do not show."""
    only = f"{seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"This is no evidence about training: a system was trained with {only}, and it takes {FEWEST_SEEDS} or more to "
        "see how much a score changes from seed to seed."
    )


def _sentences(comparison: Comparison) -> list[str]:
    return [
        sentence(
            pair.a,
            pair.b,
            difference=pair.gap,
            interval=pair.interval,
            judged=pair.verdict,
            is_corrected=len(comparison.pairs) > 1,
            less_is_better=pair.less_is_better,
        )
        for pair in comparison.pairs
    ]
