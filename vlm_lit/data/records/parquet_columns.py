"""Columns of several Parquet files that are read as one table: each has to fit the first file's.

`datasets` casts the others to the first one's types, which makes 7 of the text `007` without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vlm_lit.errors import RecordError

_TEXTS: Final = ("string", "large_string", "string_view")


def check_columns(files: Sequence[Path]) -> None:
    """Compare the columns of each file with the first one's; a column that is missing is empty there.

    Raises:
        RecordError: a file has a column that the first one lacks, or texts where that has none.
        pyarrow.ArrowException: one is damaged.
    """
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    first = pq.read_schema(files[0])
    for file in files[1:]:
        for field in pq.read_schema(file):
            there = None if field.name not in first.names else first.field(field.name).type
            if there is None:
                raise _refusal(file, f"it has a column {field.name!r}, which {files[0].name} lacks")
            if _is_text(field.type) and not _is_text(there):
                held = "nothing" if str(there) == "null" else str(there)
                raise _refusal(file, f"the column {field.name!r} holds text, and {held} in {files[0].name}")


def _is_text(kind: Any) -> bool:  # noqa: ANN401 - a pyarrow.DataType
    return str(getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind) in _TEXTS


def _refusal(file: Path, problem: str) -> RecordError:
    remedy = "Write path as a list of the files: each is then read by itself."
    return RecordError(problem, remedy=remedy, file=file, code="records.columns")
