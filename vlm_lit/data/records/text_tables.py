"""Strict CSV and TSV reading: every cell is text, and an empty cell is absent.

VLMEvalKit's tables hold pictures in base64, and a row may give another row's `index` in place of the same picture.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import format_of, open_bytes

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_INDEX, _IMAGE = "index", "image"
_LONGEST_INDEX: Final = 64


def iter_table(path: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of a `.csv` or `.tsv` file with a header, in order.

    Raises:
        RecordError: the file is empty or no UTF-8, a row has more or fewer cells than the header, or the header names
            a column twice.
    """
    pictures: dict[str, str] = {}
    csv.field_size_limit(sys.maxsize)  # the default refuses a cell of 128 KiB, and pictures have more
    with open_bytes(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=DELIMITERS[format_of(path)], strict=True)
        try:
            header = table_header(path, next(reader, None))
            index = -1
            for cells in reader:
                if cells:
                    index += 1
                    yield table_row(path, index, reader.line_num, header, cells, pictures)
        except UnicodeDecodeError as error:
            raise _error(
                path, None, f"byte 0x{error.object[error.start]:02x} is not UTF-8", "Save it as UTF-8."
            ) from None
        except csv.Error as error:
            remedy = "Put cells with quotes or line breaks in double quotes, and double the quotes in them."
            raise _error(path, f"in line {reader.line_num}", f"no table: {error}", remedy) from None


def table_header(path: Path, header: list[str] | None) -> list[str]:
    """The names of a table's columns.

    Raises:
        RecordError: there are none, or two are equal.
    """
    if not header:
        raise _error(path, None, "the file is empty", "Write a header and a row at least.")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise _error(path, None, f"two columns are named {twice[0]!r}", "Give each column a name of its own.")
    return header


def table_row(
    path: Path, index: int, line: int, header: list[str], cells: list[str], pictures: dict[str, str]
) -> dict[str, object]:
    """A table's row by column.

    Args:
        path: the table.
        index: which row, counted from 0.
        line: where it ends in the file, counted from 1.
        header: the columns' names.
        cells: what the row holds.
        pictures: those of earlier rows by `index`; this row's is added.

    Raises:
        RecordError: it has more or fewer cells than the header.
    """
    if len(cells) != len(header):
        problem = f"{len(cells)} cells where the header names {len(header)} columns"
        remedy = "Write as many; a cell that holds the separator or a line break goes in double quotes."
        raise _error(path, f"{index} (line {line})", problem, remedy)
    row = {name: cell or None for name, cell in zip(header, cells, strict=True) if name or cell}
    own, image = row.get(_INDEX), row.get(_IMAGE)
    if own is not None and image is not None:
        if len(image) > _LONGEST_INDEX:
            pictures[own] = image
        elif image in pictures:
            row[_IMAGE] = pictures[image]
    return {**row}


def _error(path: Path, place: str | None, problem: str, remedy: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=path, record=place, code="table.syntax")
