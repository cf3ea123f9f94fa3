"""Structures in Thrift's compact protocol, in which Parquet writes the headers of its pages: their whole numbers."""

from __future__ import annotations

import mmap
from typing import Final, TypeAlias

Fields: TypeAlias = dict[int, "int | Fields"]

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_WHOLE: Final = (4, 5, 6)
_MOST_BYTES: Final = 2**20
"""Of a structure. The largest there are hold a page's least and greatest text."""

_MOST_DEPTH: Final = 8
_MOST_ITEMS: Final = 10_000


class CompactThrift:
    """A place in a file's bytes from which a structure is read; `at` is then what comes behind it."""

    def __init__(self, data: mmap.mmap | bytes, at: int) -> None:
        self.data, self.at, self._end = data, at, min(len(data), at + _MOST_BYTES)

    def struct(self, depth: int = 0) -> Fields:
        """The fields of a structure by their numbers: whole numbers and structures, everything else passed over.

        Raises:
            ValueError: there is none.
        """
        if depth > _MOST_DEPTH:
            raise ValueError("nested too deep")
        fields: Fields = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._whole()
            kind = head & 15
            if kind in _WHOLE:
                fields[number] = self._whole()
            elif kind == _STRUCT:
                fields[number] = self.struct(depth + 1)
            elif kind not in (_TRUE, _FALSE):  # which their head says already
                self._pass(kind, depth)
        return fields

    def _pass(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE, _BYTE):
            self._skip(1)
        elif kind in _WHOLE:
            self._unsigned()
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._unsigned())
        elif kind == _STRUCT:
            self.struct(depth + 1)
        elif kind in (_LIST, _SET):
            head = self._byte()
            self._items(head >> 4 if head >> 4 < 15 else self._unsigned(), [head & 15], depth)
        elif kind == _MAP:
            count = self._unsigned()
            kinds = self._byte() if count else 0
            self._items(count, [kinds >> 4, kinds & 15], depth)
        else:
            raise ValueError("a kind that there is not")

    def _items(self, count: int, kinds: list[int], depth: int) -> None:
        if count > _MOST_ITEMS or depth > _MOST_DEPTH:
            raise ValueError("too many values")
        for _ in range(count):
            for kind in kinds:
                self._pass(kind, depth + 1)

    def _byte(self) -> int:
        self._skip(1)
        return self.data[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > self._end:
            raise ValueError("it ends too early")

    def _unsigned(self) -> int:
        value = shift = 0
        while (part := self._byte()) & 128:
            value |= (part & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number too long")
        return value | part << shift

    def _whole(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
