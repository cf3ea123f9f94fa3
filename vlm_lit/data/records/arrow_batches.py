"""Batches of an Arrow file, looked at before it is read: what they unpack to is known from what stands before them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final

from vlm_lit.files.open_text import most_unpacked, unpacks_too_far

_OF_A_ROW: Final = 8  # bytes
_ROWS: Final = "record batch"
_DICTIONARY: Final = "dictionary"


def check_batches(path: Path) -> None:
    """Go through a file's messages; what is packed stays so.

    Raises:
        RecordError: it unpacks to more bytes than a file of its size may, or says that it has as many rows.
        pyarrow.ArrowException: it is damaged.
        struct.error: so it is.
    """
    import pyarrow  # type: ignore[import-untyped]

    most, size = most_unpacked(path), 0
    with pyarrow.memory_map(str(path)) as file:
        reader = pyarrow.ipc.MessageReader.open_stream(file)
        while True:
            try:
                message = reader.read_next_message()
            except StopIteration:
                return
            if message.type in (_ROWS, _DICTIONARY):
                size += _size(_Table.root(message.metadata.to_pybytes()), message.type, message.body)
            if size > most:
                raise unpacks_too_far(path, most)


class _Table:
    """A table of FlatBuffers, in which Arrow writes what a message holds: its fields by their numbers."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self._fields = at - self._read("<i", at)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def place(self, number: int) -> int | None:
        """Where a field stands; None where the table has none of that number."""
        behind = 4 + 2 * number
        offset = self._read("<H", self._fields + behind) if behind < self._read("<H", self._fields) else 0
        return self.at + offset if offset else None

    def table(self, number: int) -> _Table | None:
        """The table that a field names."""
        at = self.place(number)
        return None if at is None else _Table(self.data, at + self._read("<I", at))

    def number(self, number: int) -> int:
        """A field's long number; 0 where it is not written."""
        at = self.place(number)
        return 0 if at is None else self._read("<q", at)

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A field's list of two long numbers each."""
        at = self.place(number)
        if at is None:
            return []
        at += self._read("<I", at)
        return list(struct.iter_unpack("<qq", self.data[at + 4 : at + 4 + 16 * self._read("<I", at)]))

    def _read(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error("a place before the beginning")
        value: int = struct.unpack_from(form, self.data, at)[0]
        return value


def _size(message: _Table, kind: str, body: Any) -> int:  # noqa: ANN401 - a pyarrow.Buffer
    batch = message.table(2)
    if batch is not None and kind == _DICTIONARY:
        batch = batch.table(1)
    if batch is None:
        return 0
    size = max(0, batch.number(0)) * _OF_A_ROW
    if batch.place(3) is None:  # nothing is packed
        return max(size, int(body.size))
    for at, length in batch.pairs(2):
        if length >= 8 and 0 <= at <= body.size - 8:
            said: int = struct.unpack("<q", body[at : at + 8].to_pybytes())[0]  # -1: this one is not packed
            size += said if said >= 0 else length
    return size
