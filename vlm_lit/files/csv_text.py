"""Text of CSV files for people: a cell that somebody else wrote is never a formula in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

Cell = str | float | None

_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""How a text begins that a spreadsheet takes for a formula, in the wide letters of East Asia too."""

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Rows as the text of a CSV file, numbers in full precision, nothing for None."""
    return "".join(map(_line, rows))


def _line(row: Sequence[Cell]) -> str:
    text = io.StringIO(newline="")
    # With this end of a line the library quotes a cell that holds either of the two; what follows it is no new cell.
    csv.writer(text, lineterminator="\r\n").writerow([_cell(value) for value in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Cell) -> Cell:
    """A cell's value; a text that would be a formula gets an apostrophe before it, one that is a number stays."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
