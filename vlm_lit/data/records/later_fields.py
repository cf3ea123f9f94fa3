"""Fields of a record that are read from disk when the first of them is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property


class LaterFields(Mapping[str, object]):
    """A record's fields, still on disk.

    Args:
        read: reads them; what it raises, whoever asks for a field is told.
    """

    def __init__(self, read: Callable[[], Mapping[str, object]]) -> None:
        self._read = read

    @cached_property
    def _held(self) -> Mapping[str, object]:
        return self._read()

    def __getitem__(self, key: str) -> object:
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
