"""Sequences of records by index: rows of an Arrow table on disk, and several sources one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, overload
from uuid import uuid4

from vlm_lit.data.records.class_labels import label_names
from vlm_lit.data.records.naming import Naming
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

if TYPE_CHECKING:
    from datasets import Dataset


class ArrowRecords(Sequence[Record]):
    """Records of an Arrow table that stay on disk until asked for; only the row asked for is read.

    Args:
        table: the table.
        rows: which of its rows.
        naming: makes a record of a row; the table's class labels are added.
    """

    def __init__(self, table: Dataset, rows: range, naming: Naming) -> None:
        self._table, self._rows = table.with_format("arrow"), rows
        self.naming = replace(naming, labels=label_names(table.features))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> ArrowRecords: ...
    def __getitem__(self, index: int | slice) -> Record | ArrowRecords:
        if isinstance(index, slice):
            return ArrowRecords(self._table, self._rows[index], self.naming)
        row = self._rows[index]
        return self.naming.record(row, self._read(row))

    def later(self) -> Iterator[Callable[[], Mapping[str, object]]]:
        """What reads each row; it may be called in any order, or not at all."""
        return (partial(self._read, row) for row in self._rows)

    def _read(self, row: int) -> Mapping[str, object]:
        read: Mapping[str, object] = self._table[row].to_pylist()[0]
        return read

    @property
    def fingerprint(self) -> str:
        """What names the table's contents: its files with their sizes and times; of a table in memory, nothing does."""
        files = [Path(file["filename"]) for file in self._table.cache_files]
        stamps = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
        return " ".join([*(stamps or [uuid4().hex]), str(self._rows)])

    def column(self, name: str) -> list[object]:
        """One column of every record, under the name the table has for it, without reading the others.

        Raises:
            RecordError: there is no such column.
        """
        if name not in self._table.column_names:
            there = ", ".join(map(repr, self._table.column_names))
            raise RecordError(
                f"no column {name!r}; there are {there}",
                remedy="Correct its name in the settings.",
                file=self.naming.file,
                code="records.missing_column",
            )
        values: list[object] = self._table.select_columns([name])[:][name].to_pylist()
        return [values[row] for row in self._rows]


class ChainedRecords(Sequence[Record]):
    """The records of several sources, one source after the other.

    Args:
        parts: each source's records.
    """

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self.parts = parts
        self._ends = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> ChainedRecords: ...
    def __getitem__(self, index: int | slice) -> Record | ChainedRecords:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1, "records are read in order"
            cut = zip(self.parts, self._ends, strict=False)
            return ChainedRecords([part[max(0, start - at) : max(0, stop - at)] for part, at in cut])
        at = range(len(self))[index]
        k = bisect_right(self._ends, at) - 1
        return self.parts[k][at - self._ends[k]]


class ChosenRecords(Sequence[Record]):
    """Some of the records of a sequence.

    Args:
        records: the sequence.
        chosen: which of them, by index.
    """

    def __init__(self, records: Sequence[Record], chosen: Sequence[int]) -> None:
        self._records, self._chosen = records, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenRecords: ...
    def __getitem__(self, index: int | slice) -> Record | ChosenRecords:
        if isinstance(index, slice):
            return ChosenRecords(self._records, self._chosen[index])
        return self._records[self._chosen[index]]


def table_fingerprints(records: Sequence[Record]) -> list[str]:
    """What names the contents of each Arrow table that records come from."""
    if isinstance(records, ChainedRecords):
        return [name for part in records.parts for name in table_fingerprints(part)]
    return [records.fingerprint] if isinstance(records, ArrowRecords) else []
