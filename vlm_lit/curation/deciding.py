"""Decision on each candidate: its split, whether an earlier row says the same, and who contradicts whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.curation.candidates import Candidate, made_id
from vlm_lit.curation.looks import PictureLook
from vlm_lit.curation.outcomes import Contradiction, KeptRow, MergedRow, RejectedRow
from vlm_lit.curation.placing import Placing
from vlm_lit.data.records.findings import numbered_repeats

Outcome = KeptRow | MergedRow | RejectedRow

_PROTECTED: Final = {"test": 0, "val": 1, "train": 2, None: 3}
"""Whose pictures are placed first where sources say the splits: what is tested on is not to be trained on."""


def decided(
    rows: Sequence[Candidate | RejectedRow], seen: Sequence[PictureLook], placing: Placing, *, by_source: bool
) -> list[Outcome]:
    """Each row's outcome, in the order of the rows.

    Args:
        rows: candidates, and rows that are rejected already.
        seen: every picture.
        placing: puts pictures on splits.
        by_source: whether a row stays on the split that its source says.
    """
    outcomes: list[Outcome | None] = [row if isinstance(row, RejectedRow) else None for row in rows]
    first: dict[object, int] = {}
    places: Iterator[int] = iter(range(len(rows)))
    if by_source:
        places = iter(sorted(places, key=lambda place: _PROTECTED[rows[place].row.split]))
    for place in places:
        row = rows[place]
        if isinstance(row, Candidate):
            outcomes[place] = _decided(row, place, seen, placing, first, by_source)
    done = [outcome for outcome in outcomes if outcome is not None]
    assert len(done) == len(rows)
    return done


def _decided(
    row: Candidate,
    place: int,
    seen: Sequence[PictureLook],
    placing: Placing,
    first: dict[object, int],
    by_source: bool,
) -> Outcome:
    for picture in row.pictures:
        if (found := seen[picture].problem) is not None:
            problem, remedy, code = found
            return RejectedRow(row=row.row, code=code, problem=problem, remedy=remedy, pictures=row.pictures)
    digests = [seen[picture].digest for picture in row.pictures]
    wanted = row.row.split if by_source else None
    split = placing.split_for(digests, wanted)
    if split is None:
        return _on_two_sides(row, digests, placing, wanted)
    key = (tuple(digests), row.asked, row.answer, row.references)
    into = first.setdefault(key, place)
    return KeptRow(candidate=row, split=split) if into == place else MergedRow(candidate=row, into=into)


def _on_two_sides(row: Candidate, digests: Sequence[str], placing: Placing, wanted: str | None) -> RejectedRow:
    exact = any(digest in placing.split_of for digest in digests)
    there = " and ".join(sorted(placing.splits_near(digests)))
    like = "stands on" if exact else "is like pictures on"
    problem = f"its picture {like} {there}" + (f", and its source says {wanted}" if wanted is not None else "")
    return RejectedRow(
        row=row.row,
        code="exact_duplicates" if exact else "near_duplicates",
        problem=problem,
        remedy="It can stand on neither side: take one of the pictures out, or lower --near_distance.",
        pictures=row.pictures,
    )


def contradictions(outcomes: Sequence[Outcome], seen: Sequence[PictureLook]) -> list[Contradiction]:
    """The questions that kept rows answer differently about one picture; the several answers of one row are none."""
    asked: dict[object, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, KeptRow):
            row = outcome.candidate
            if not row.asked:  # captions: one picture may have several
                continue
            asked.setdefault((tuple(seen[k].digest for k in row.pictures), row.asked), []).append(place)
    merged = Counter(outcome.into for outcome in outcomes if isinstance(outcome, MergedRow))
    found = []
    for places in asked.values():
        answers: Counter[str] = Counter()
        for place in places:
            outcome = outcomes[place]
            assert isinstance(outcome, KeptRow)
            answers[outcome.candidate.answer] += 1 + merged[place]
        if len(answers) > 1:
            kept = outcomes[places[0]]
            assert isinstance(kept, KeptRow)
            found.append(Contradiction(question=kept.candidate.question, answers=dict(answers), rows=tuple(places)))
    return found


def without_contradictions(outcomes: Sequence[Outcome], found: Sequence[Contradiction]) -> list[Outcome]:
    """The outcomes where rows that contradict each other are rejected, and what was merged into them as well."""
    of: dict[int, Contradiction] = {place: one for one in found for place in one.rows}
    return [_contradicted(outcome, of, place) for place, outcome in enumerate(outcomes)]


def _contradicted(outcome: Outcome, of: Mapping[int, Contradiction], place: int) -> Outcome:
    if isinstance(outcome, RejectedRow):
        return outcome
    one = of.get(outcome.into if isinstance(outcome, MergedRow) else place)
    if one is None:
        return outcome
    others = ", ".join(f"{answer} ({count})" for answer, count in one.answers.items())
    return RejectedRow(
        row=outcome.candidate.row,
        code="contradiction",
        problem=f"one question about one picture has several answers: {others}",
        remedy="Look at the picture and keep the right one, or say --contradictions keep.",
        pictures=outcome.candidate.pictures,
    )


def with_ids(outcomes: Sequence[Outcome], seen: Sequence[PictureLook]) -> tuple[list[Outcome], int]:
    """The outcomes, each kept row under an id of its own; and how many had the id of an earlier one."""
    places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, KeptRow)]
    ids: list[str] = []
    for place in places:
        outcome = outcomes[place]
        assert isinstance(outcome, KeptRow)
        row = outcome.candidate
        ids.append(row.id if row.id is not None else made_id([seen[k].digest for k in row.pictures], row.asked))
    renamed = numbered_repeats(ids)
    named = list(outcomes)
    for position, place in enumerate(places):
        outcome = outcomes[place]
        assert isinstance(outcome, KeptRow)
        named[place] = replace(outcome, id=renamed.get(position, ids[position]))
    return named, sum(outcomes[places[k]].candidate.id is not None for k in renamed)  # type: ignore[union-attr]
