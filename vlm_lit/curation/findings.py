"""What a curation found, besides each row's outcome: duplicates, contradictions, answers, repaired paths, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vlm_lit.curation.deciding import Outcome
from vlm_lit.curation.likeness import Likeness
from vlm_lit.curation.looks import PictureLook
from vlm_lit.curation.outcomes import Contradiction, KeptRow
from vlm_lit.curation.placing import SPLITS, across_splits

_LISTED: Final = 30
_ODD_ASPECT: Final = 0.35  # shorter side over longer side; as cleanvision has it
_ODD_SIZE: Final = 10.0  # times smaller or larger than the median, by the root of the area; as cleanvision has it


@dataclass(frozen=True, kw_only=True)
class AnswerPrior:
    """What is answered without looking: how often each answer is given, and how far the question alone leads.

    `most_common` are normalized answers with their counts. `by_question` is the share of rows answered right by each
    question's most common answer: what a model would score that never looks at a picture, on the rows it counted.
    """

    rows: int
    distinct: int
    most_common: tuple[tuple[str, int], ...]
    by_question: float

    @property
    def majority(self) -> float:
        """The share of the most common answer."""
        return self.most_common[0][1] / self.rows if self.rows else 0.0


@dataclass(frozen=True, kw_only=True)
class PictureFindings:
    """Pictures with what cleanvision calls an issue, under its names: positions in the list of pictures."""

    exact_duplicates: tuple[tuple[int, ...], ...] = ()
    near_duplicates: tuple[tuple[int, ...], ...] = ()
    odd_aspect_ratio: tuple[int, ...] = ()
    odd_size: tuple[int, ...] = ()


@dataclass(kw_only=True)
class CurationFindings:
    """Everything that is reported of a curation."""

    pictures: PictureFindings = field(default_factory=PictureFindings)
    contradictions: Sequence[Contradiction] = ()
    priors: dict[str, AnswerPrior] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    renamed: int = 0
    across_splits: tuple[int, int] = (0, 0)
    across_sources: tuple[int, int] = (0, 0)
    warnings: list[str] = field(default_factory=list)


def picture_findings(seen: Sequence[PictureLook], likeness: Likeness) -> PictureFindings:
    """Sets of pictures that are one file's content, sets that look alike, and pictures of odd size."""
    by_digest: dict[str, list[int]] = {}
    for place, look in enumerate(seen):
        if look.digest:
            by_digest.setdefault(look.digest, []).append(place)
    sizes = sorted((look.width * look.height) ** 0.5 for look in seen if look.digest)
    median = sizes[len(sizes) // 2] if sizes else 1.0
    return PictureFindings(
        exact_duplicates=tuple(tuple(places) for places in by_digest.values() if len(places) > 1),
        near_duplicates=_near_sets(by_digest, likeness),
        odd_aspect_ratio=tuple(
            place
            for place, look in enumerate(seen)
            if look.digest and min(look.width, look.height) < _ODD_ASPECT * max(look.width, look.height)
        ),
        odd_size=tuple(
            place
            for place, look in enumerate(seen)
            if look.digest and not 1 / _ODD_SIZE <= (look.width * look.height) ** 0.5 / median <= _ODD_SIZE
        ),
    )


def _near_sets(by_digest: Mapping[str, Sequence[int]], likeness: Likeness) -> tuple[tuple[int, ...], ...]:
    """Pictures that are connected by likeness, one of each file's content."""
    of_class: dict[int, list[str]] = {}
    for digest in by_digest:
        of_class.setdefault(likeness.class_of(digest), []).append(digest)
    sets: list[tuple[int, ...]] = []
    done: set[int] = set()
    for start in of_class:
        if start in done:
            continue
        done.add(start)
        members, pending = list[str](), [start]
        while pending:
            kind = pending.pop()
            members += of_class[kind]
            for near in likeness.around(of_class[kind][0]):
                if near in of_class and near not in done:
                    done.add(near)
                    pending.append(near)
        if len(members) > 1:
            sets.append(tuple(sorted(by_digest[digest][0] for digest in members)))
    return tuple(sets)


def answer_priors(outcomes: Sequence[Outcome]) -> dict[str, AnswerPrior]:
    """The answers of the kept rows, of each split that has any."""
    kept = [outcome for outcome in outcomes if isinstance(outcome, KeptRow)]
    return {
        split: _prior([row for row in kept if row.split == split])
        for split in SPLITS
        if any(row.split == split for row in kept)
    }


def _prior(rows: Sequence[KeptRow]) -> AnswerPrior:
    answers = Counter(row.candidate.answer for row in rows)
    by_question: dict[str, Counter[str]] = {}
    for row in rows:
        by_question.setdefault(row.candidate.asked, Counter())[row.candidate.answer] += 1
    right = sum(counts.most_common(1)[0][1] for counts in by_question.values())
    return AnswerPrior(
        rows=len(rows),
        distinct=len(answers),
        most_common=tuple(answers.most_common(_LISTED)),
        by_question=right / len(rows),
    )


def across_written(outcomes: Sequence[Outcome], seen: Sequence[PictureLook], likeness: Likeness) -> tuple[int, int]:
    """Pictures of the written rows that stand on several splits, and those like one on another split."""
    splits: dict[str, set[str]] = {}
    for outcome in outcomes:
        if isinstance(outcome, KeptRow):
            for picture in outcome.candidate.pictures:
                splits.setdefault(seen[picture].digest, set()).add(outcome.split)
    return across_splits(likeness, splits)
