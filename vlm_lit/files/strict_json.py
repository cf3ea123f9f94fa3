"""Strict JSON reading: nothing in the file is silently changed.

The standard parser keeps the last of two equal keys, takes `NaN` and `1e400` for numbers, and lets half a
surrogate pair through to a tokenizer that cannot encode it. Here each of these is a `RecordError` that names the
record, the line and the column (both counted from 1). UTF-8 is read with or without a byte order mark, since
the mark changes nothing; UTF-16 and every other encoding is refused.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import EllipsisType
from typing import Final, NoReturn, TypeAlias

from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import open_bytes, read_bytes

MAX_DEPTH: Final = 64
"""Levels of nesting a record may have. Data sets use five; a limit of our own is the same on every Python version."""

MAX_DIGITS: Final = 100
"""Digits an integer may have: more than any id, fewer than where `int` itself refuses (4300)."""

_Place: TypeAlias = Callable[[int], str]  # offset in the text -> "3 (line 5, column 2)"

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SUSPECT_ESCAPE: Final = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class _Refused(Exception):  # noqa: N818 - it never leaves this file
    def __init__(self, problem: str, remedy: str, code: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.code = problem, remedy, code


def iter_json_list(path: Path, *, chats: bool = False) -> Iterator[dict[str, object]]:
    """Yield the objects of a `.json` file that holds one list of objects, in order.

    Args:
        path: the file; one that ends in `.gz` is unpacked.
        chats: take a list of messages for the object {"messages": list}.

    Raises:
        RecordError: with a `json.*` code, at the first thing that is wrong.
    """
    text = _decode(read_bytes(path), path, None)
    position = _list_start(text, path)
    index = 0
    if text[position : position + 1] != "]":
        while True:
            value, position = _parse_object(text, position, path, _list_place(text, index), chats=chats)
            yield value
            index, position = index + 1, _skip(text, position)
            if text[position : position + 1] != ",":
                break
            position = _skip(text, position + 1)
    _expect_list_end(text, position, path, _list_place(text, index))


def iter_json_lines(path: Path, *, chats: bool = False) -> Iterator[dict[str, object]]:
    """Yield the objects of a `.jsonl` file, one a line, holding one line in memory. Blank lines are skipped.

    Args:
        path: the file; one that ends in `.gz` is unpacked.
        chats: take a list of messages for the object {"messages": list}.

    Raises:
        RecordError: with a `json.*` code and the line's number, at the first thing that is wrong.
    """
    index = 0
    with open_bytes(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_line(line, number, path, index, chats=chats)
                index += 1
    if index == 0:
        raise _empty(path)


def whole_object(path: Path) -> dict[str, object] | EllipsisType | None:
    """The one object that a `.json` file holds; `...` where more objects follow it, and None where it holds a list.

    Raises:
        RecordError: with a `json.*` code, where the file begins as neither.
    """
    text = _decode(read_bytes(path), path, None)
    start = _skip(text, 0)
    if not text.startswith("{", start):
        return None
    value, end = _parse_object(text, start, path, _list_place(text, 0))
    after = _skip(text, end)
    if after == len(text):
        return value
    if text[after] != "{" or "\n" not in text[end:after]:
        remedy = "Write one object a line, or all of them in one list: [{...}, {...}]."
        raise _error(path, _list_place(text, 1)(after), "more text after the object", remedy, "json.syntax")
    return ...


def parse_line(line: bytes, number: int, path: Path, index: int, *, chats: bool) -> dict[str, object]:
    """The one object that a line holds.

    Args:
        line: its bytes.
        number: which line of the file, counted from 1.
        path: the file.
        index: which record of the file, counted from 0.
        chats: take a list of messages for the object {"messages": list}.

    Raises:
        RecordError: with a `json.*` code.
    """
    text = _decode(line, path, f"{index} (line {number})")

    def place(offset: int) -> str:
        return f"{index} (line {number}, column {offset + 1})"

    start = _skip(text, 0)
    if index == 0 and text.startswith("[", start) and not (chats and _is_chat_line(text, start)):
        raise _error(
            path,
            place(start),
            "a JSON list in a .jsonl file",
            "Rename the file to .json, or write one object a line.",
            "json.not_an_object",
        )
    value, end = _parse_object(text, start, path, place, chats=chats)
    if _skip(text, end) != len(text):
        raise _error(
            path, place(end), "more text after the object", "Write exactly one object on each line.", "json.syntax"
        )
    return value


def _is_chat_line(text: str, start: int) -> bool:
    try:
        return _is_chat(_DECODER.raw_decode(text, start)[0])
    except (ValueError, RecursionError, _Refused):
        return False


def _is_chat(value: object) -> bool:
    """Whether a list is that of one conversation's messages."""
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return False
    return all(entry.keys() & {"role", "from"} and entry.keys() & {"content", "value"} for entry in value)


def _parse_object(
    text: str, start: int, path: Path, place: _Place, *, chats: bool = False
) -> tuple[dict[str, object], int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
        if chats and _is_chat(value):
            value = {"messages": value}
        if not isinstance(value, dict):
            raise _Refused(
                f"expected an object, found {type(value).__name__}",
                'Write every record as {"key": value, ...}.',
                "json.not_an_object",
            )
        _check_depth(text, start, end, value)
        _check_strings(text, start, end, value)
    except json.JSONDecodeError as error:
        raise _syntax_error(text, error, path, place) from None
    except _Refused as refused:
        raise _error(path, place(start), refused.problem, refused.remedy, refused.code) from None
    except RecursionError:
        raise _error(path, place(start), *_TOO_DEEP) from None
    return value, end


def _list_start(text: str, path: Path) -> int:
    """The offset of the first element (or of the closing bracket)."""
    position = _skip(text, 0)
    if position == len(text):
        raise _empty(path)
    if text[position] != "[":
        remedy = "Write a list of objects: [{...}, {...}]. A file with one object a line is named .jsonl."
        raise _error(path, None, f"expected a list, found {_found(text, position)}", remedy, "json.not_a_list")
    return _skip(text, position + 1)


def _found(text: str, position: int) -> str:
    try:
        value, _ = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError, _Refused):
        return "something else"
    return f"one object with the keys {', '.join(map(repr, value))}" if isinstance(value, dict) else "a single value"


def _expect_list_end(text: str, position: int, path: Path, place: _Place) -> None:
    if position == len(text):
        raise _truncated(path, place(position))
    if text[position] != "]":
        problem = f"expected a comma or a closing bracket, found {text[position]!r}"
        raise _error(path, place(position), problem, "Correct the JSON at this place.", "json.syntax")
    after = _skip(text, position + 1)
    if after != len(text):
        remedy = "Keep one list in the file and nothing after it."
        raise _error(path, place(after), "more text after the list", remedy, "json.syntax")


def _list_place(text: str, index: int) -> _Place:
    def place(offset: int) -> str:
        line = text.count("\n", 0, offset) + 1
        return f"{index} (line {line}, column {offset - text.rfind(chr(10), 0, offset)})"

    return place


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _decode(data: bytes, path: Path, place: str | None) -> str:
    # Text that JSON allows never holds a zero byte, so one at the start is half of a two-byte character.
    if data.startswith(_WIDE_MARKS) or b"\0" in data[:4]:
        raise _error(path, None, "the file is UTF-16 or UTF-32", "Save it as UTF-8.", "json.utf16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f" on line {line}" if place is None else ""
        problem = f"byte {error.start}{where} (0x{data[error.start]:02x}) is not UTF-8"
        raise _error(path, place, problem, "Save the file as UTF-8.", "json.encoding") from None


def _syntax_error(text: str, error: json.JSONDecodeError, path: Path, place: _Place) -> RecordError:
    if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return _truncated(path, place(error.pos))
    return _error(path, place(error.pos), f"not JSON: {error.msg}", "Correct the JSON at this place.", "json.syntax")


def _truncated(path: Path, place: str) -> RecordError:
    remedy = "The file was cut short: copy or write it again."
    return _error(path, place, "the text ends before the record does", remedy, "json.truncated")


def _empty(path: Path) -> RecordError:
    return _error(path, None, "the file is empty", "Write at least one record.", "json.empty")


def _error(path: Path, place: str | None, problem: str, remedy: str, code: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=path, record=place, code=code)


_TOO_DEEP: Final = (
    f"nested deeper than {MAX_DEPTH} levels",
    "Flatten the record.",
    "json.too_deep",
)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(
            f"the key {twice!r} stands twice in one object",
            "Keep one of the two: a parser would drop the first without a word.",
            "json.duplicate_key",
        )
    return fields


def _constant(word: str) -> NoReturn:
    raise _Refused(f"{word} is not JSON", "Write a number, or null for a missing value.", "json.not_a_number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"an integer of {len(digits)} digits", "Write it as a string.", "json.huge_number")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"{digits[:20]} is too large for a number", "Write it as a string.", "json.huge_number")
    return value


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_number
)


def _check_depth(text: str, start: int, end: int, value: object) -> None:
    # Counting brackets is quick and settles almost every record; only the others are walked.
    if text.count("[", start, end) + text.count("{", start, end) <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if any(isinstance(item, dict | list) for item in level):
        raise _Refused(*_TOO_DEEP)


def _check_strings(text: str, start: int, end: int, value: object) -> None:
    """Find what only a backslash escape can bring in: half a surrogate pair, and the zero character."""
    if not _SUSPECT_ESCAPE.search(text, start, end):
        return
    pending = [value]
    while pending:
        item = pending.pop()
        pending.extend(_children(item))
        if isinstance(item, dict):
            pending.extend(item)
        if isinstance(item, str):
            _check_string(item)


def _check_string(words: str) -> None:
    if "\0" in words:
        raise _Refused("a string holds the zero character (\\u0000)", "Remove it.", "json.zero_character")
    if any("\ud800" <= letter <= "\udfff" for letter in words):
        remedy = "Write both halves of the pair, or remove it: no tokenizer can encode one alone."
        raise _Refused(f"half a surrogate pair in {words[:40]!r}", remedy, "json.lone_surrogate")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
