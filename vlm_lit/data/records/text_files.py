"""Rows of a text file: JSON, JSON lines, CSV or TSV, each packed by gzip or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from vlm_lit.data.records.json_records import iter_json_file
from vlm_lit.data.records.text_tables import iter_table
from vlm_lit.errors import ConfigError
from vlm_lit.files.open_text import format_of
from vlm_lit.files.strict_json import iter_json_lines, later_json_lines

LINES: Final = (".jsonl", ".ndjson", ".jsonlines")
"""Endings of files with a JSON object a line."""


def iter_rows(path: Path, key: str | None = None) -> Iterator[dict[str, object]]:
    """Yield a text file's records in order.

    Args:
        path: the file; its ending says what is in it.
        key: the key of a JSON file's one object that holds the records; null to find it.

    Raises:
        RecordError: the file cannot be read as what it is.
        ConfigError: a key for a file without keys.
    """
    ending = format_of(path)
    if ending == ".json":
        return iter_json_file(path, key)
    if key is not None:
        raise ConfigError(f"records is {key}, which is for .json files; {path} is none. Leave it out.")
    return iter_table(path) if ending in (".csv", ".tsv") else iter_json_lines(path, chats=True)


def later_rows(path: Path) -> Iterator[Callable[[], dict[str, object]]] | None:
    """What parses each row of a file in order, when it is called; None for files whose rows cannot be parsed alone."""
    return later_json_lines(path, chats=True) if format_of(path) in LINES else None
