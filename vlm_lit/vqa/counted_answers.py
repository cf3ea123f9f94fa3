"""Answers that a data set writes as objects: the answer itself, and how often people gave it.

VQA v2 writes each of ten as `{"answer": "net", "answer_confidence": "yes", "answer_id": 1}`: whose it is and how sure
they were changes nothing. Where others count them, `{"answer": "net", "count": 9}`, that is nine answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

COUNTS: Final = ("count", "votes", "frequency", "freq", "n")
WEIGHTS: Final = ("weight", "score")
_MOST: Final = 1_000
"""Answers to one question."""

ONCE_EACH: Final = "Write each answer as often as it was given."


class UncountableAnswerError(ValueError):
    """Counts or weights of answers that no number of answers follows from; says which."""


def answer_of(entry: object) -> object:
    """The answer that an entry of a list of answers holds; an entry that is no object is one."""
    return entry.get("answer") if isinstance(entry, Mapping) else entry


def is_counted(entry: Mapping[str, object]) -> bool:
    """Whether an object says more than an answer: how often it was given, or how much it weighs."""
    return any(entry.get(key) is not None for key in (*COUNTS, *WEIGHTS))


def counted_answers(entries: Sequence[object]) -> list[object]:
    """The answers of a list, each as often as it was given.

    Raises:
        UncountableAnswerError: a count is no whole number from 1, there are too many, or answers weigh differently.
    """
    objects = [entry for entry in entries if isinstance(entry, Mapping)]
    if not any(map(is_counted, objects)):
        return list(map(answer_of, entries))
    for key in WEIGHTS:
        weights = [entry.get(key) for entry in objects]
        if any(weight != weights[0] for weight in weights):
            raise UncountableAnswerError(f"answers differ in {key!r}, which is not read")
    times = list(map(_times, entries))
    if sum(times) > _MOST:
        raise UncountableAnswerError(f"{sum(times):,} answers are counted, and {_MOST:,} at most are read")
    return [answer_of(entry) for entry, count in zip(entries, times, strict=True) for _ in range(count)]


def _times(entry: object) -> int:
    """How often an answer was given: once where nothing says it."""
    said = list(_said_counts(entry)) if isinstance(entry, Mapping) else []
    if len({count for _, count in said}) > 1:
        raise UncountableAnswerError(f"{said[0][0]!r} and {said[-1][0]!r} count an answer differently")
    return said[0][1] if said else 1


def _said_counts(entry: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for key in COUNTS:
        count = entry.get(key)
        if isinstance(count, float) and count.is_integer():  # as a table with empty cells has it
            count = int(count)
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UncountableAnswerError(f"{key!r} of an answer is {count!r:.60}, no whole number from 1")
        yield key, count
