"""Pairs made of several rated answers to one question, as VLFeedback has them.

A record's `completions` are `{response, annotations: {aspect: {Rating}}}`, four of them in VLFeedback, each rated from
1 to 5 in three aspects, or `{response, rating}` or `{response, score}`. The one with the best mean is chosen, the one
with the worst rejected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from vlm_lit.data.conversations.json_texts import listed
from vlm_lit.data.conversations.record_keys import HARMLESS
from vlm_lit.data.conversations.refusals import digits_or_words, empty, refusal, shown
from vlm_lit.errors import RecordError
from vlm_lit.schema import Note, Record

COMPLETIONS: Final = "completions"
TIE: Final = "preference.tie"
"""The code of a record of which no pair can be made; a data set goes without such records, and counts them."""

_RATING: Final = "Rating"
_ANNOTATIONS: Final = "annotations"
_NUMBERS: Final = ("rating", "score")


@dataclass(frozen=True, kw_only=True)
class RatedPair:
    """The best and the worst of a record's answers, and what of the ratings was not used."""

    chosen: str
    rejected: str
    notes: tuple[Note, ...]


def rated_pair(record: Record) -> RatedPair:
    """The best and the worst of a record's `completions`, by the mean of their ratings that are numbers.

    Of equals the first in the record is taken. An answer without any rating that is a number takes no part.

    Raises:
        RecordError: they cannot be read; or, with the code `TIE`, fewer than two are rated, or all are rated alike.
    """
    rated, notes = list[tuple[float, str]](), dict[Note, None]()
    entries = list(_entries(record))
    measure = _measure(record, entries)
    for position, entry in enumerate(entries):
        what = f"completion {position}"
        answer = digits_or_words(record, entry.get("response"), f"the response of {what}")
        ratings, unused = _ratings(record, entry.get(measure), what, measure)
        rated += [(fmean(ratings), answer)] if ratings else []
        keys = (key for key, value in entry.items() if not empty(value) and key not in HARMLESS - {*_NUMBERS})
        unused += [f"{key} of a completion" for key in keys if key not in ("response", measure)]
        notes |= dict.fromkeys(Note(kind="unused", about=about) for about in unused)
    if len(rated) < 2:
        raise _no_pair(record, f"{len(rated)} of its completions have a rating")
    best = max(rated, key=lambda one: one[0])
    worst = min(rated, key=lambda one: one[0])
    if best[0] == worst[0]:
        raise _no_pair(record, f"its {len(rated)} completions are all rated {best[0]:g}")
    return RatedPair(chosen=best[1], rejected=worst[1], notes=tuple(notes))


def _measure(record: Record, entries: Sequence[Mapping[str, object]]) -> str:
    """The key of the completions' ratings, the same for all of them: two keys may have two scales."""
    there = [key for key in (_ANNOTATIONS, *_NUMBERS) if not all(empty(entry.get(key)) for entry in entries)]
    if there[:1] != [_ANNOTATIONS] and len(there) > 1:
        problem = f"its completions have both {there[0]} and {there[1]}"
        raise refusal(record, problem, remedy="Keep one of the two.", code="preference.completions")
    return there[0] if there else _ANNOTATIONS


def _no_pair(record: Record, why: str) -> RecordError:
    remedy = "No pair can be made of it: take the record out, or correct its ratings."
    return refusal(record, why, remedy=remedy, code=TIE)


def _entries(record: Record) -> Iterator[Mapping[str, object]]:
    """The completions as objects; `datasets` stores a list of objects as an object of lists."""
    value = listed(record, COMPLETIONS)
    if isinstance(value, Mapping) and value and all(isinstance(column, list | tuple) for column in value.values()):
        columns: Mapping[str, Sequence[object]] = value
        if len({len(column) for column in columns.values()}) == 1:
            value = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not isinstance(value, list | tuple) or not all(isinstance(entry, Mapping) for entry in value):
        remedy = "Write a list of {response, annotations: {aspect: {Rating}}}, or of {response, rating}."
        raise refusal(record, f"{COMPLETIONS} is {shown(value)}", remedy=remedy, code="preference.completions")
    yield from value


def _ratings(record: Record, annotations: object, what: str, measure: str) -> tuple[list[float], list[str]]:
    """The ratings that are numbers, and what else the annotations hold."""
    if empty(annotations):
        return [], []
    if measure in _NUMBERS:
        number = _number(annotations)
        return ([], [f"a {measure} that is no number"]) if number is None else ([number], [])
    if not isinstance(annotations, Mapping):
        remedy = "Write {aspect: {Rating: 1 to 5}} for each aspect."
        problem = f"the annotations of {what} are {shown(annotations)}"
        raise refusal(record, problem, remedy=remedy, code="preference.completions")
    found, unused = list[float](), list[str]()
    for aspect, value in annotations.items():
        rating = value.get(_RATING) if isinstance(value, Mapping) else value
        number = _number(rating)
        if number is not None:
            found.append(number)
        elif not empty(rating):
            unused.append(f"a rating of {aspect} that is no number")
        more = value if isinstance(value, Mapping) else {}
        unused += [f"{key} of a rating" for key, held in more.items() if key != _RATING and not empty(held)]
    return found, unused


def _number(rating: object) -> float | None:
    if isinstance(rating, bool) or not isinstance(rating, int | float | str):
        return None
    try:
        number = float(rating)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
