"""Pages of a Parquet file, looked at before it is read: what they unpack to is known from their headers.

The file's footer may say anything; a page's own header says what is allocated for it. A column whose values are
numbers of a dictionary repeats them: a text of a megabyte stands a thousand times in a file of one kilobyte.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm_lit.data.records.compact_thrift import CompactThrift
from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import most_unpacked, unpacks_too_far

_OF_A_VALUE: Final = 8  # bytes: a number, or where a text begins
_TEXTS: Final = "BYTE_ARRAY"
_AT_ONCE: Final = 65_536  # rows
_DICTIONARY: Final = 2  # the kind of page
_VALUES_OF: Final = (5, 8)  # fields of a page's header: what a page of data holds, in its two versions


@dataclass(frozen=True, kw_only=True)
class _Page:
    unpacked: int
    values: int
    is_dictionary: bool


def check_pages(path: Path) -> None:
    """Go through the headers of all pages; columns that repeat long texts are read as numbers of their dictionary.

    Raises:
        RecordError: the file unpacks to more bytes than one of its size may, or its pages are not where it says.
        pyarrow.ArrowException: it is damaged.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    most, size = most_unpacked(path), 0
    metadata = pyarrow.parquet.read_metadata(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for index in range(row_group.num_columns):
                column = row_group.column(index)
                width = metadata.schema.column(index).length or 0  # of texts that are all as long
                size += _column_size(path, data, group, column, max(width, _OF_A_VALUE), most - size)
                if size > most:
                    raise unpacks_too_far(path, most)


def _column_size(path: Path, data: mmap.mmap, group: int, column: Any, width: int, most: int) -> int:  # noqa: ANN401
    """The bytes of one column of a group of rows; any number above `most` where there are more."""
    pages, values, dictionary = 0, 0, 0
    for page in _pages(path, data, column):
        pages += page.unpacked
        values += page.values
        dictionary += page.unpacked if page.is_dictionary else 0
    size = max(pages, values * width)
    if size > most or column.physical_type != _TEXTS or values * dictionary <= most - size:
        return size
    return size + _repeated(path, group, column.path_in_schema, most)


def _pages(path: Path, data: mmap.mmap, column: Any) -> Iterator[_Page]:  # noqa: ANN401 - pyarrow's
    at = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        at = min(at, column.dictionary_page_offset)
    end = at + column.total_compressed_size
    while at < end:
        header = CompactThrift(data, at)
        try:
            fields: dict[int, Any] = header.struct()
            unpacked, packed = int(fields[2]), int(fields[3])
            counts = [int(fields[field][1]) for field in _VALUES_OF if field in fields]
        except (ValueError, KeyError, TypeError, IndexError):
            packed = unpacked = -1
        if packed < 0 or unpacked < 0 or header.at + packed > len(data):
            problem = f"the pages of column {column.path_in_schema} are not where the file says"
            raise RecordError(problem, remedy="Copy or write it again.", file=path, code="records.unreadable")
        yield _Page(unpacked=unpacked, values=sum(counts), is_dictionary=fields.get(1) == _DICTIONARY)
        at = header.at + packed


def _repeated(path: Path, group: int, column: str, most: int) -> int:
    """The bytes of a column's texts, each repetition counted; the texts themselves are held once."""
    import pyarrow.compute  # type: ignore[import-untyped]
    import pyarrow.parquet

    found = 0
    with pyarrow.parquet.ParquetFile(path, read_dictionary=[column]) as file:
        for batch in file.iter_batches(batch_size=_AT_ONCE, row_groups=[group], columns=[column]):
            leaf = _leaf(batch.column(0))
            if pyarrow.types.is_dictionary(leaf.type):
                lengths = pyarrow.compute.binary_length(leaf.dictionary).take(leaf.indices)
            else:
                lengths = pyarrow.compute.binary_length(leaf)
            found += pyarrow.compute.sum(lengths).as_py() or 0
            if found > most:
                break
    return found


def _leaf(array: Any) -> Any:  # noqa: ANN401 - pyarrow's
    """The only column of texts within lists and structures."""
    import pyarrow

    while not pyarrow.types.is_dictionary(array.type) and array.type.num_fields:
        array = array.field(0) if pyarrow.types.is_struct(array.type) else array.flatten()
    return array
