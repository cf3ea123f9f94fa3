"""Rows of a large JSON file: its bytes are held, and a row is parsed when it is asked for.

Parsed, 200,000 questions with ten answers each take 1 GB and seconds at each start; their bytes take 180 MB. The first
time, all rows are parsed once by the strict reader; where each begins and ends is then kept under the file's digest.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, overload

from vlm_lit.data.records.naming import Naming
from vlm_lit.data.records.record_sequences import ChosenRecords
from vlm_lit.data.records.text_files import LINES
from vlm_lit.files import json_text, strict_json
from vlm_lit.files.open_text import format_of, read_bytes
from vlm_lit.files.strict_json import decode, list_items, list_place, parse_line, parse_object
from vlm_lit.files.user_cache import Cached
from vlm_lit.schema import Record

LARGE: Final = 16 * 1024**2
"""Bytes from which on a file is held as it is."""

Span = tuple[int, int]


class JsonRows:
    """The rows of a file by index.

    Args:
        path: the file, for errors.
        data: its bytes, unpacked.
        spans: where each row begins and ends in them.
    """

    def __init__(self, path: Path, data: bytes, spans: Sequence[Span]) -> None:
        self.path, self.data = path, data
        self.begins, self.ends = array("Q", (begin for begin, _ in spans)), array("Q", (end for _, end in spans))

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, index: int) -> dict[str, object]:
        text = self.data[self.begins[index] : self.ends[index]].decode()
        value, _ = parse_object(text, 0, self.path, list_place(text, index), chats=True)
        return value


class JsonRecords(Sequence[Record]):
    """Records of a large JSON file.

    Args:
        rows: the file's rows.
        naming: makes a record of a row.
    """

    def __init__(self, rows: JsonRows, naming: Naming) -> None:
        self._rows, self._naming = rows, naming

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenRecords: ...
    def __getitem__(self, index: int | slice) -> Record | ChosenRecords:
        if isinstance(index, slice):
            return ChosenRecords(self, range(*index.indices(len(self))))
        row = range(len(self))[index]
        return self._naming.record(row, self._rows[row])


def open_rows(path: Path) -> JsonRows | None:
    """A file's rows; None where it is neither JSON lines nor one JSON list.

    Raises:
        RecordError: with a `json.*` code, at the first thing that is wrong.
    """
    ending = format_of(path)
    data = read_bytes(path) if ending in (*LINES, ".json") else b""
    is_list = ending == ".json" and data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    if not data or (ending == ".json" and not is_list):
        return None
    identity = {"sha256": hashlib.sha256(data).hexdigest(), "list": is_list, "reader": _reader()}
    cached = Cached("rows", identity)
    spans = _kept(cached.read(), data)
    if spans is None:
        spans = list(_list_spans(path, data) if is_list else _line_spans(path, data))
        cached.write(spans)
    return JsonRows(path, data, spans) if spans else None


def _reader() -> str:
    """The digest of the code that has found the rows to be right."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (json_text, strict_json))
    return hashlib.sha256(code).hexdigest()


def _kept(value: Any, data: bytes) -> list[Span] | None:  # noqa: ANN401 - whatever the file holds
    if not isinstance(value, list) or not value or value[-1][1] > len(data):
        return None
    return [(begin, end) for begin, end in value]


def _line_spans(path: Path, data: bytes) -> Iterator[Span]:
    begin = index = 0
    for number, line in enumerate(BytesIO(data), start=1):
        stripped = line.strip()
        if stripped:
            parse_line(line, number, path, index, chats=True)
            mark = 3 if stripped.startswith(b"\xef\xbb\xbf") else 0
            first = begin + line.index(stripped) + mark
            yield first, first + len(stripped) - mark
            index += 1
        begin += len(line)


def _list_spans(path: Path, data: bytes) -> Iterator[Span]:
    text = decode(data, path, None)
    done, at = 0, len(data) - len(text.encode())  # characters behind us, and their bytes with a byte order mark
    for _, start, end in list_items(text, path, chats=True):
        begin = at + len(text[done:start].encode())
        done, at = end, begin + len(text[start:end].encode())
        yield begin, at
