"""Choice of the examples that a reader should look at, by rules that give the same ones every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from vlm_lit.studies.comparing.alignment import AlignedItem
from vlm_lit.studies.comparing.comparison import Comparison, SystemPair


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Items to show under a title, with the rule that chose them."""

    title: str
    rule: str
    items: tuple[AlignedItem, ...]


def selections(comparison: Comparison, n: int) -> list[Selection]:
    """Wins and losses of each pair, the answers that differ most, then a plain sample.

    Args:
        comparison: what to choose from.
        n: how many the sample shows; the other selections show half as many, rounded up.
    """
    half = (n + 1) // 2
    found = [
        *(chosen for pair in comparison.pairs for chosen in _won(comparison, pair, half)),
        *_most_different(comparison, half),
        *_sample(comparison.items, n),
    ]
    return [selection for selection in found if selection.items]


def _won(comparison: Comparison, pair: SystemPair, n: int) -> Iterable[Selection]:
    position = {system.name: index for index, system in enumerate(comparison.systems)}
    for better, worse, count in ((pair.a, pair.b, pair.tally.wins), (pair.b, pair.a, pair.tally.losses)):
        first, second = (worse, better) if pair.less_is_better else (better, worse)
        gain = _gain(position[first], position[second])
        ahead = [item for item in comparison.judged if gain(item) > 0]
        yield Selection(
            title=f"{better} ahead of {worse}",
            rule=f"Of {count:,} such items, the largest gains in score, then in the order of the file; "
            "one of each image first",
            items=_one_of_each_image(sorted(ahead, key=gain, reverse=True), n),
        )


def _gain(higher: int, lower: int) -> Callable[[AlignedItem], float]:
    return lambda item: (item.scores[higher] or 0.0) - (item.scores[lower] or 0.0)


def _most_different(comparison: Comparison, n: int) -> Iterable[Selection]:
    apart = {item.id: difference_in_words(item) for item in comparison.items}
    differing = [item for item in comparison.items if apart[item.id] > 0]
    yield Selection(
        title="Most different answers",
        rule=f"Of {len(differing):,} items answered differently, those whose answers share the smallest part of their "
        "words, then the longest, then in the order of the file; one of each image first",
        items=_one_of_each_image(sorted(differing, key=lambda item: (-apart[item.id], -_length(item))), n),
    )


def _sample(items: Sequence[AlignedItem], n: int) -> Iterable[Selection]:
    answered = [item for item in items if any(answer is not None for answer in item.answers)]
    shown = min(n, len(answered))
    yield Selection(
        title="Side by side",
        rule=f"{shown:,} of {len(answered):,} items, evenly spaced through the file",
        items=tuple(answered[index * len(answered) // shown] for index in range(shown)),
    )


def difference_in_words(item: AlignedItem) -> float:
    """How little the systems' answers share: 1 - words in both / words in either, over all pairs; 0 is the same."""
    words = [set(answer.lower().split()) for answer in item.answers if answer is not None]
    pairs = list(combinations(words, 2))
    return sum(1 - len(a & b) / len(a | b) for a, b in pairs if a | b) / len(pairs) if pairs else 0.0


def _length(item: AlignedItem) -> int:
    return max((len(answer) for answer in item.answers if answer is not None), default=0)


def _one_of_each_image(ranked: Sequence[AlignedItem], n: int) -> tuple[AlignedItem, ...]:
    """The first `n`, where an image's second item waits until every image was seen."""
    seen: dict[object, int] = {}
    rounds = []
    for item in ranked:
        rounds.append(seen.get(item.cluster, 0))
        seen[item.cluster] = rounds[-1] + 1
    order = sorted(range(len(ranked)), key=lambda index: rounds[index])
    return tuple(ranked[index] for index in order[:n])
