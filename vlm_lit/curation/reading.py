"""Reading of a source's rows, whatever its format: each has its fields, or the error that it has none for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vlm_lit.curation.cvat import cvat_rows
from vlm_lit.curation.json_rows import json_rows
from vlm_lit.curation.label_studio import flat_row, is_flat_task, is_task, task_row
from vlm_lit.curation.settings import CuratedSource
from vlm_lit.curation.source_files import CVAT, SourceFile, source_files
from vlm_lit.curation.source_rows import FileRow, SourceRow
from vlm_lit.curation.table_rows import table_rows
from vlm_lit.data.records.locate import TEXT
from vlm_lit.data.records.records import stream_records
from vlm_lit.data.records.text_tables import DELIMITERS
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.open_text import format_of
from vlm_lit.files.pointers import LFS_PROBLEM, LFS_REMEDY, is_pointer_file


def source_rows(source: CuratedSource) -> Iterator[SourceRow]:
    """The rows of a source in order.

    Raises:
        RecordError: nothing there, or no file of a known kind.
        ConfigError: an encoding that there is not.
    """
    _check_encoding(source)
    for file in source_files(source.path, source.split):
        for row in _file_rows(file, source):
            yield replace(row, split=file.split)


def _check_encoding(source: CuratedSource) -> None:
    try:
        "".encode(source.encoding or "utf-8")
    except LookupError:
        raise ConfigError(f"encoding is {source.encoding}, which Python does not know. Write cp1252, say.") from None


def _file_rows(file: SourceFile, source: CuratedSource) -> Iterator[SourceRow]:
    path = file.path
    if path is None or format_of(path) not in (*TEXT, CVAT):
        yield from _table_rows(file, source)
        return
    if is_pointer_file(path):
        found = RecordError(LFS_PROBLEM, remedy=LFS_REMEDY, file=path, code="records.lfs_pointer")
        yield SourceRow(source=file.name, index=0, folder=path.parent, problem=found, ends=True)
        return
    for row in _text_rows(path, source):
        yield _source_row(file, path, row)


def _text_rows(path: Path, source: CuratedSource) -> Iterator[FileRow]:
    ending = format_of(path)
    if ending == CVAT:
        return cvat_rows(path)
    if ending in DELIMITERS:
        return table_rows(path, encoding=source.encoding)
    return json_rows(path, key=source.records, encoding=source.encoding)


def _source_row(file: SourceFile, path: Path, row: FileRow) -> SourceRow:
    place = str(row.index) if row.line is None else f"{row.index} (line {row.line})"
    found = row.found
    if not isinstance(found, RecordError):
        found = _unpacked(found, path, place)
    made = SourceRow(source=file.name, index=row.index, folder=path.parent, line=row.line, ends=row.ends)
    return replace(made, problem=found) if isinstance(found, RecordError) else replace(made, fields=found)


def _unpacked(fields: Mapping[str, object], path: Path, place: str) -> Mapping[str, object] | RecordError:
    """A row of a labelling tool as a plain one; any other as it is."""
    try:
        if is_task(fields):
            return task_row(fields, path, place)
    except RecordError as error:
        return error
    return flat_row(fields) if is_flat_task(fields) else fields


def _table_rows(file: SourceFile, source: CuratedSource) -> Iterator[SourceRow]:
    """The rows of Parquet, Arrow and WebDataset files, of saved data sets and of the hub's."""
    index = 0
    try:
        for record in stream_records(file.name, split=source.split, later=True):
            folder = record.image_root if record.image_root is not None else Path()
            row = SourceRow(source=file.name, index=index, folder=file.folder or folder)
            try:  # those of the records behind it can be read
                row = replace(row, fields=dict(record.fields))
            except RecordError as error:
                row = replace(row, problem=error)
            yield row
            index += 1
    except RecordError as error:
        yield SourceRow(source=file.name, index=index, folder=file.folder or Path(), problem=error, ends=True)
