"""Rows of CSV and TSV files one by one: a broken row is an error beside the good ones, not the end of the file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vlm_lit.curation.json_rows import as_utf8
from vlm_lit.curation.source_rows import FileRow
from vlm_lit.data.records.text_tables import DELIMITERS, table_header, table_row
from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import format_of, open_bytes

_OTHERS: Final = ";\t"
"""What spreadsheets write between cells where a comma is a number's."""


def table_rows(path: Path, *, encoding: str | None) -> Iterator[FileRow]:
    """The rows of a table with a header, parted as its ending says, or by ; or tabs where its header is.

    Args:
        path: the file.
        encoding: of its text, where it is not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)  # the default refuses a cell of 128 KiB, and pictures have more
    pictures: dict[str, str] = {}
    with open_bytes(path) as packed:
        text = io.TextIOWrapper(as_utf8(packed, encoding), "utf-8", errors="surrogateescape", newline="")
        first = text.readline()
        rest = _lines(first, text)
        reader = csv.reader(rest, delimiter=_delimiter(path, first), strict=True)
        try:
            header = table_header(path, next(reader, None))
        except (RecordError, csv.Error) as error:
            found = error if isinstance(error, RecordError) else _syntax(path, 0, 1, error)
            yield FileRow(index=0, line=1, found=found, ends=True)
            return
        index = 0
        while True:
            begins = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield FileRow(index=index, line=begins, found=_syntax(path, index, begins, error))
                index += 1
                continue
            if cells is None:
                return
            if cells:
                yield FileRow(index=index, line=begins, found=_row(path, index, begins, header, cells, pictures))
                index += 1


def _lines(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _delimiter(path: Path, header: str) -> str:
    usual = DELIMITERS[format_of(path)]
    return next((other for other in _OTHERS if usual not in header and other in header), usual)


def _row(
    path: Path, index: int, line: int, header: list[str], cells: list[str], pictures: dict[str, str]
) -> dict[str, object] | RecordError:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        remedy = "Save the file as UTF-8, or name its encoding: --encoding cp1252."
        problem = "a byte that is not UTF-8"
        return RecordError(problem, remedy=remedy, file=path, record=f"{index} (line {line})", code="table.encoding")
    try:
        return table_row(path, index, line, header, cells, pictures)
    except RecordError as error:
        return error


def _syntax(path: Path, index: int, line: int, error: csv.Error) -> RecordError:
    remedy = "Put cells with quotes or line breaks in double quotes, and double the quotes in them."
    place = f"{index} (line {line})"
    return RecordError(f"no table: {error}", remedy=remedy, file=path, record=place, code="table.syntax")
