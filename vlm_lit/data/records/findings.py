"""Notes on how a data set was read (unused keys, odd words, repeated ids), each with a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from vlm_lit.schema import DataItem, Note

_LISTED: Final = 12


@dataclass
class Findings:
    """Notes of a data set's records, counted; `repeated` of all its `records` have an id that an earlier one has.

    `mixture` says how often each of several sources is visited.
    """

    source: str = ""
    records: int = 0
    repeated: int = 0
    mixture: tuple[str, ...] = ()
    notes: Counter[Note] = field(default_factory=Counter)

    def add(self, item: DataItem) -> None:
        """Count what was noted of one record, each thing once."""
        self.records += 1
        self.notes.update(set(item.notes))

    def lines(self) -> Iterator[str]:
        """A sentence for each thing that was found."""
        yield from self.mixture
        if unused := self._listed("unused"):
            yield f"{self.source}: keys that nothing is made of: {unused}."
        yield from self.problems()
        for note, count in sorted(self.notes.items(), key=lambda item: item[0].about):
            if note.kind == "text":
                yield f"{self.source}: {note.about}, in {count:,} of {self.records:,} records."
        if letters := self._listed("letters"):
            yield (
                f"{self.source}: answers hold strings that this checkpoint has as tokens, and they are learned as "
                f"letters: {letters}."
            )
        if self.repeated:
            yield (
                f"{self.source}: {self.repeated:,} of {self.records:,} records have an id that an earlier record has; "
                "they are numbered: id, id#2, ..."
            )

    def problems(self) -> Iterator[str]:
        """What of it would be lost by training on the rest."""
        if lost := self._listed("lost"):
            yield (
                f"{self.source}: keys that look like input or answers, and nothing is made of them: {lost}. "
                "Say by `columns` or `prompt` what they are, or name them in ignore_keys."
            )

    def _listed(self, kind: str) -> str:
        found = sorted((n.about, count) for n, count in self.notes.items() if n.kind == kind)
        named = ", ".join(f"{about} ({count:,} of {self.records:,})" for about, count in found[:_LISTED])
        return named + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def numbered_repeats(ids: Sequence[str]) -> dict[int, str]:
    """New ids for records whose id an earlier one has: `id#2`, `id#3`, ..., as far as these are free."""
    taken, counts, renamed = set(ids), Counter[str](), dict[int, str]()
    for position, name in enumerate(ids):
        counts[name] += 1
        if counts[name] == 1:
            continue
        while (new := f"{name}#{counts[name]}") in taken:
            counts[name] += 1
        taken.add(new)
        renamed[position] = new
    return renamed
