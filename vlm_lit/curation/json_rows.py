"""Rows of JSON files one by one: a broken row is an error beside the good ones, not the end of the file."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from vlm_lit.curation.source_rows import FileRow
from vlm_lit.data.records.json_records import iter_json_file
from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import format_of, open_bytes
from vlm_lit.files.strict_json import parse_line

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = json.JSONDecoder(strict=False)
"""Says where a value ends; what it holds is read strictly."""


def json_rows(path: Path, *, key: str | None, encoding: str | None) -> Iterator[FileRow]:
    """The rows of a `.json` or `.jsonl` file: a list, one object a line, a list under a key, or objects by id.

    Args:
        path: the file.
        key: the key of its one object that holds the rows; null to find it.
        encoding: of its text, where it is not UTF-8.
    """
    with open_bytes(path) as packed:
        file = as_utf8(packed, encoding)
        first = _first_byte(file)
        if not first:
            yield _end(path, 0, None, "the file is empty", "json.empty")
        elif first == b"[" and not _is_lines(file, path):
            yield from _list_rows(path, _text(file))
        elif first == b"{" and format_of(path) == ".json" and _is_one_object(text := _text(file)):
            yield from _object_rows(path, key, text)
        else:
            yield from _line_rows(path, file)


def as_utf8(file: IO[bytes], encoding: str | None) -> IO[bytes]:
    """The file as UTF-8 without a mark: UTF-16 as its mark says, another encoding where it is named.

    Bytes that the named encoding does not have become bytes that UTF-8 does not have, which their row is refused for.
    """
    first = file.read(2)
    file.seek(0)
    if first in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    if encoding is not None:
        return io.BytesIO(file.read().decode(encoding, "surrogateescape").encode("utf-8", "surrogateescape"))
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    return file


def _first_byte(file: IO[bytes]) -> bytes:
    """The first byte that is no blank; the file stands again where it stood."""
    start = file.tell()
    found = b""
    while (chunk := file.read(4096)) and not (found := chunk.lstrip()[:1]):
        pass
    file.seek(start)
    return found


def _text(file: IO[bytes]) -> str:
    return file.read().decode("utf-8", "surrogateescape")


def _is_lines(file: IO[bytes], path: Path) -> bool:
    """Whether a file that begins with a bracket holds a conversation's messages a line."""
    start = file.tell()
    line = next((line for line in file if line.strip()), b"")
    file.seek(start)
    try:
        parse_line(line, 1, path, 0, chats=True)
    except RecordError:
        return False
    return True


def _is_one_object(text: str) -> bool:
    """Whether a text that begins with a brace is one object, cut short or not, rather than one a line."""
    try:
        _, end = _PLAIN.raw_decode(text, _skip(text, 0))
    except (ValueError, RecursionError):
        lines = [line for line in text.split("\n", 3) if line.strip()]
        return len(lines) < 2 or not lines[1].lstrip().startswith("{")
    return _skip(text, end) == len(text)


def _object_rows(path: Path, key: str | None, text: str) -> Iterator[FileRow]:
    lines = text.count("\n") + 1
    try:
        for index, found in enumerate(iter_json_file(path, key)):
            yield FileRow(index=index, line=None, found=found)
    except RecordError as error:  # the file is read whole before its first row is given
        yield FileRow(index=0, line=lines if error.code == "json.truncated" else 1, found=error, ends=True)


def _line_rows(path: Path, file: IO[bytes]) -> Iterator[FileRow]:
    index = 0
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield FileRow(index=index, line=number, found=_parsed(line, number, path, index))
            index += 1


def _parsed(line: bytes, number: int, path: Path, index: int) -> dict[str, object] | RecordError:
    try:
        return parse_line(line, number, path, index, chats=True)
    except RecordError as error:
        return error


def _list_rows(path: Path, text: str) -> Iterator[FileRow]:
    position = _skip(text, text.index("[") + 1)
    index, line, counted = 0, 1, 0
    while position < len(text) and text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = _PLAIN.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield _broken(path, text, index, line, error)
            return
        if isinstance(value, list) and not _is_talk(value):
            problem, remedy = "expected an object, found list", 'Write every record as {"key": value, ...}.'
            found: dict[str, object] | RecordError = RecordError(
                problem, remedy=remedy, file=path, record=f"{index} (line {line})", code="json.not_an_object"
            )
        else:
            written = text[position:end].encode("utf-8", "surrogateescape")
            found = _parsed(written, line, path, index)
        yield FileRow(index=index, line=line, found=found)
        index, position = index + 1, _skip(text, end)
        if text[position : position + 1] not in (",", "]"):
            break
        position = _skip(text, position + 1) if text[position] == "," else position
    line += text.count("\n", counted, position)
    if position >= len(text):
        yield _end(path, index, line, "the text ends before the list does", "json.truncated")
    elif text[position] != "]":
        problem = f"expected a comma or a closing bracket, found {text[position]!r}"
        yield _end(path, index, line, problem, "json.syntax")
    elif _skip(text, position + 1) != len(text):
        yield _end(path, index, line, "more text after the list", "json.syntax")


def _is_talk(value: list[object]) -> bool:
    return bool(value) and all(isinstance(entry, dict) for entry in value)


def _broken(path: Path, text: str, index: int, line: int, error: Exception) -> FileRow:
    where = error.pos if isinstance(error, json.JSONDecodeError) else 0
    cut = isinstance(error, json.JSONDecodeError) and (
        not text[where:].strip() or error.msg.startswith("Unterminated string")
    )
    problem = "the text ends before the record does" if cut else f"not JSON: {error}"
    return _end(path, index, line, problem, "json.truncated" if cut else "json.syntax")


def _end(path: Path, index: int, line: int | None, problem: str, code: str) -> FileRow:
    remedy = "Nothing behind this place was read: correct the file, or copy it again."
    place = f"{index} (line {line})" if line is not None else None
    error = RecordError(problem, remedy=remedy, file=path, record=place, code=code)
    return FileRow(index=index, line=line, found=error, ends=True)


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
