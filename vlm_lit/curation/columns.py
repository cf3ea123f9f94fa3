"""A source's field names under ours: `question=frage|question_text` takes the first of these that a row has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlm_lit.errors import ConfigError

_MISSING: Final = object()


class Columns:
    """Our names for a source's fields, and which of them have been seen in any row.

    Args:
        names: ours to theirs, several of theirs with | between; a field within another is written with a dot.
        where: what gave them, for errors.

    Raises:
        ConfigError: an empty name.
    """

    def __init__(self, names: Mapping[str, str], where: str) -> None:
        self.where = where
        self._names = {ours: [name.strip() for name in theirs.split("|")] for ours, theirs in names.items()}
        for ours, theirs in self._names.items():
            if not ours or not all(theirs):
                raise ConfigError(f"{where} has an empty name. Write ours=theirs, for example question=frage.")
        self._unseen = dict(self._names)
        self._there: dict[str, None] = {}

    def named(self, fields: Mapping[str, object]) -> dict[str, object]:
        """A row's fields under our names; a row that has none of theirs keeps its own."""
        if not self._names:
            return dict(fields)
        found: dict[str, object] = {}
        taken: set[str] = set()
        for ours, theirs in self._names.items():
            for name in theirs:
                value = _value(fields, name)
                if value is not _MISSING:
                    found[ours] = value
                    taken.add(name)
                    self._unseen.pop(ours, None)
                    break
        if self._unseen and len(self._there) < 100:
            self._there.update(dict.fromkeys(fields))
        return {name: value for name, value in fields.items() if name not in taken} | found

    def check(self) -> None:
        """Refuse a name that no row has had.

        Raises:
            ConfigError: there is one.
        """
        for ours, theirs in self._unseen.items():
            there = ", ".join(list(self._there)[:20])
            raise ConfigError(
                f"{self.where}: no row has a field {' or '.join(theirs)} to use as {ours}; there are {there}."
            )


def _value(fields: Mapping[str, object], name: str) -> object:
    if name in fields:
        return fields[name]
    value: object = fields
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value
