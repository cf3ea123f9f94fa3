"""Confusion tables: counts of predicted against true answers, where there are few true answers.

Answers are compared as a metric compares them. Of several references the true one is the most common; of equally
common ones, the one that stands first. So an answer that a metric takes for half right, because fewer people gave it,
stands beside the diagonal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from vlm_lit.metrics.rules import Answer, Rule

MOST_ANSWERS: Final = 20
"""More different true answers than this are no table that anyone reads."""

OVERALL: Final = "overall"
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of predicted against true answers over some items.

    `group` is the breakdown they belong to (`answer_type/number`), or `overall`. `answers` are the A true answers,
    the most common first, or by size where all are numbers. `counts` [A][A + 1] has a row for each of them and a
    column for each, and a last column for predictions that are none of them; `others` says how often each of those
    was given.
    """

    group: str
    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    others: Mapping[str, int]

    @property
    def n(self) -> int:
        """The number of items: every one of them is in one cell."""
        return sum(map(sum, self.counts))


@dataclass(frozen=True)
class _Item:
    true: str
    predicted: str
    groups: frozenset[str]


def confusions(rule: Rule, answers: Iterable[Answer], most: int = MOST_ANSWERS) -> list[Confusion]:
    """One table of all items if they have at most `most` true answers, else one of each breakdown that has so few.

    A breakdown with one true answer is none, and of two with the same items the first is taken. Items that the metric
    leaves out, or that have no reference, are not counted.
    """
    items = [_item(rule, answer) for answer in answers if answer.references and rule.counts(answer) is not None]
    if not items:
        return []
    if len({item.true for item in items}) <= most:
        return [_counted(OVERALL, items)]
    names = sorted(frozenset(chain.from_iterable(item.groups for item in items)))
    parts = {name: [place for place, item in enumerate(items) if name in item.groups] for name in names}
    once = {tuple(places): name for name, places in reversed(parts.items())}  # the first name of the same items stays
    found = [_counted(name, [items[place] for place in places]) for places, name in once.items()]
    return sorted((c for c in found if 1 < len(c.answers) <= most), key=lambda c: c.group)


def _item(rule: Rule, answer: Answer) -> _Item:
    predicted, references = rule.compared(answer)
    ((true, _),) = Counter(references).most_common(1)  # of equally common ones, the first met
    return _Item(true, predicted, frozenset(f"{name}/{value}" for name, value in rule.groups(answer).items()))


def _number(answer: str) -> tuple[float, str]:
    return float(answer), answer


def _counted(group: str, items: Sequence[_Item]) -> Confusion:
    often = Counter(item.true for item in items)
    answers = tuple(sorted(often, key=_number if all(map(_NUMBER.fullmatch, often)) else lambda a: (-often[a], a)))
    column = {answer: place for place, answer in enumerate(answers)}
    counts = [[0] * (len(answers) + 1) for _ in answers]
    others: Counter[str] = Counter()
    for item in items:
        place = column.get(item.predicted, len(answers))
        counts[column[item.true]][place] += 1
        if place == len(answers):
            others[item.predicted] += 1
    return Confusion(group=group, answers=answers, counts=tuple(map(tuple, counts)), others=dict(others.most_common()))
