"""Reading of the first sheet of an `.xlsx` file, its cells as text. openpyxl does it, where it is installed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import zip_longest
from pathlib import Path
from textwrap import shorten
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

from vlm_lit.data.records.text_tables import table_header
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.open_text import most_unpacked, unpacks_too_far

_AS_TEXT: Final = "Format the column as text, and write what was meant."
_PERCENT: Final = re.compile(r"0(?:\.(0+))?%")


def iter_sheet(path: Path) -> Iterator[dict[str, object]]:
    """Yield the rows below the header, in order.

    A whole number is its digits, a percentage is as the sheet shows it, an empty cell is nothing. A first column
    without a name, as pandas writes its index, is left out.

    Raises:
        ConfigError: openpyxl is not installed.
        RecordError: the file is no sheet, is empty, names a column twice, a cell is neither text nor a number, or it
            stands in another column without a name.
    """
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise ConfigError(
            f"{path}: a sheet is read by openpyxl, which is not installed: pip install openpyxl. Or save the sheet as "
            ".tsv."
        ) from None
    try:
        _check_size(path)
        book = openpyxl.load_workbook(path, read_only=True)  # formulas as they are written: an answer may begin with =
    except RecordError:
        raise
    except (BadZipFile, KeyError, ValueError, OSError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise _error(path, None, f"no sheet: {error}", "Save it as .xlsx again, or as .tsv.") from error
    try:
        sheet = iter(book.worksheets[0].iter_rows())
        header = [_cell(path, "header", cell) for cell in next(sheet, ())]
        if not any(header):
            raise _error(path, None, "the first sheet is empty", "Write a header and a row at least.")
        while header[-1] is None:  # a sheet may say that it is 16,384 columns wide
            header.pop()
        table_header(path, [name for name in header if name])
        for index, cells in enumerate(sheet):
            _refuse_unnamed(path, str(index), header, cells)
            row = {name: _cell(path, str(index), cell) for name, cell in zip(header, cells, strict=False) if name}
            if any(value is not None for value in row.values()):
                yield {**row}
    finally:
        book.close()


def _refuse_unnamed(path: Path, record: str, header: Sequence[str | None], cells: Sequence[Any]) -> None:
    """Refuse a cell in a column that the header does not name, but for the first, where pandas writes its index."""
    for name, cell in zip_longest(header[1:], cells[1:]):
        if name is None and cell is not None and cell.value is not None:
            problem = f"the cell {cell.coordinate} holds {shorten(str(cell.value), 40)!r}, and its column has no name"
            raise _error(path, record, problem, "Write a name into the header, or empty the cell.")


def _check_size(path: Path) -> None:
    """Refuse a sheet that unpacks to more than one of its size may; zipfile reads no more of a part than it says."""
    with ZipFile(path) as parts:
        most = most_unpacked(path)
        if sum(part.file_size for part in parts.infolist()) > most:
            raise unpacks_too_far(path, most)


def _cell(path: Path, record: str, cell: Any) -> str | None:  # noqa: ANN401 - openpyxl's, which need not be installed
    """A cell's text; a share in percent as the sheet shows it."""
    value = cell.value
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        if "%" in cell.number_format:
            return _percent(path, record, value, cell.number_format)
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    problem = f"a cell is a {type(value).__name__}, {value}"
    raise _error(path, record, problem, _AS_TEXT)


def _percent(path: Path, record: str, value: float, number_format: str) -> str:
    """`57%` of 0.57: the sheet holds the share, and whoever reads it sees the other."""
    told = _PERCENT.fullmatch(number_format)
    if told is None:
        raise _error(path, record, f"a cell is {value} in the format {number_format}, which is not read", _AS_TEXT)
    places = Decimal(1).scaleb(-len(told[1] or ""))
    return f"{(Decimal(str(value)) * 100).quantize(places, ROUND_HALF_UP)}%"


def _error(path: Path, record: str | None, problem: str, remedy: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=path, record=record, code="table.syntax")
