"""Strict reading of JSON files: nothing in the file is silently changed, and what is wrong is said with its place.

A mistake is a `RecordError` that names the file, the record, the line and the column (both counted from 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import EllipsisType
from typing import NoReturn, TypeAlias

from vlm_lit.errors import RecordError
from vlm_lit.files.json_text import NotStrict, OfObject, after_space, decoded, only_value, text_of, truncated
from vlm_lit.files.open_text import open_bytes, read_bytes

_Place: TypeAlias = Callable[[int], str]  # offset in the text -> "3 (line 5, column 2)"


def read_json(
    path: Path, *, remedy: str | None = None, any_value: bool = False, of_object: OfObject | None = None
) -> object:
    """The one value that a `.json` file holds.

    Args:
        path: the file.
        remedy: what the user can do about a broken one; otherwise what helps with the mistake that is found.
        any_value: take NaN, infinities and texts with any character, as a run, whose texts a model wrote, leaves them.
        of_object: makes something else of each object.

    Raises:
        RecordError: it cannot be read, or is no strict JSON.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = remedy or "Correct the path."
        problem = f"cannot be read ({error.strerror})"
        raise RecordError(problem, remedy=remedy, file=path, code="json.unreadable") from error
    return parse_json(data, path, remedy=remedy, any_value=any_value, of_object=of_object)


def parse_json(
    data: bytes,
    file: Path | str,
    *,
    remedy: str | None = None,
    any_value: bool = False,
    of_object: OfObject | None = None,
) -> object:
    """The one value that a text holds; arguments and errors as those of `read_json`.

    Args:
        data: the text.
        file: where it was read, for the error: a file, or a line of one.
        remedy, any_value, of_object: see `read_json`.

    Raises:
        RecordError: it is no strict JSON.
    """
    text = ""
    try:
        text = text_of(data)
        return only_value(text, any_value=any_value, of_object=of_object)
    except NotStrict as error:
        place = "" if error.offset is None else f" ({_line_and_column(text, error.offset)})"
        raise RecordError(
            f"{error.problem}{place}", remedy=remedy or error.remedy, file=file, code=error.code
        ) from None


def iter_json_list(path: Path, *, chats: bool = False) -> Iterator[dict[str, object]]:
    """Yield the objects of a `.json` file that holds one list of objects, in order.

    Args:
        path: the file; one that ends in `.gz` is unpacked.
        chats: take a list of messages for the object {"messages": list}.

    Raises:
        RecordError: with a `json.*` code, at the first thing that is wrong.
    """
    for value, _, _ in list_items(decode(read_bytes(path), path), path, chats=chats):
        yield value


def list_items(text: str, path: Path, *, chats: bool) -> Iterator[tuple[dict[str, object], int, int]]:
    """The objects of a text that is one list of them, in order, each with the offsets where it begins and ends.

    Arguments and errors are those of `iter_json_list`; the path is for errors alone.
    """
    start = _list_start(text, path)
    index = 0
    if text[start : start + 1] != "]":
        while True:
            value, end = parse_object(text, start, path, list_place(text, index), chats=chats)
            yield value, start, end
            index, start = index + 1, after_space(text, end)
            if text[start : start + 1] != ",":
                break
            start = after_space(text, start + 1)
    _expect_list_end(text, start, path, list_place(text, index))


def iter_json_lines(path: Path, *, chats: bool = False) -> Iterator[dict[str, object]]:
    """Yield the objects of a `.jsonl` file, one a line, holding one line in memory. Blank lines are skipped.

    Args:
        path: the file; one that ends in `.gz` is unpacked.
        chats: take a list of messages for the object {"messages": list}.

    Raises:
        RecordError: with a `json.*` code and the line's number, at the first thing that is wrong.
    """
    return (parsed() for parsed in later_json_lines(path, chats=chats))


def later_json_lines(path: Path, *, chats: bool = False) -> Iterator[Callable[[], dict[str, object]]]:
    """Yield what parses each line of a `.jsonl` file, in order; it may be called at any time, or never.

    Arguments and errors are those of `iter_json_lines`.
    """
    index = 0
    with open_bytes(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield partial(parse_line, line, number, path, index, chats=chats)
                index += 1
    if index == 0:
        raise _empty(path)


def whole_object(path: Path) -> dict[str, object] | EllipsisType | None:
    """The one object that a `.json` file holds; `...` where more objects follow it, and None where it holds a list.

    Raises:
        RecordError: with a `json.*` code, where the file begins as neither.
    """
    text = decode(read_bytes(path), path)
    start = after_space(text, 0)
    if not text.startswith("{", start):
        return None
    value, end = parse_object(text, start, path, list_place(text, 0))
    after = after_space(text, end)
    if after == len(text):
        return value
    if text[after] != "{" or "\n" not in text[end:after]:
        remedy = "Write one object a line, or all of them in one list: [{...}, {...}]."
        raise _error(path, list_place(text, 1)(after), "more text after the object", remedy, "json.syntax")
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
    text = decode(line, path, f"{index} (line {number})")

    def place(offset: int) -> str:
        return f"{index} (line {number}, column {offset + 1})"

    start = after_space(text, 0)
    if index == 0 and text.startswith("[", start) and not (chats and _is_chat(_first_value(text, start))):
        raise _error(
            path,
            place(start),
            "a JSON list in a .jsonl file",
            "Rename the file to .json, or write one object a line.",
            "json.not_an_object",
        )
    value, end = parse_object(text, start, path, place, chats=chats)
    if after_space(text, end) != len(text):
        raise _error(
            path, place(end), "more text after the object", "Write exactly one object on each line.", "json.syntax"
        )
    return value


def _is_chat(value: object) -> bool:
    """Whether a list is that of one conversation's messages."""
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return False
    return all(entry.keys() & {"role", "from"} and entry.keys() & {"content", "value"} for entry in value)


def parse_object(
    text: str, start: int, path: Path, place: _Place, *, chats: bool = False
) -> tuple[dict[str, object], int]:
    """The object that begins at `start`, and where it ends."""
    try:
        value, end = decoded(text, start)
    except NotStrict as error:
        _refuse(error, path, place(start if error.offset is None else error.offset))
    if chats and _is_chat(value):
        value = {"messages": value}
    if not isinstance(value, dict):
        problem = f"expected an object, found {type(value).__name__}"
        raise _error(path, place(start), problem, 'Write every record as {"key": value, ...}.', "json.not_an_object")
    return value, end


def _list_start(text: str, path: Path) -> int:
    """The offset of the first element (or of the closing bracket)."""
    position = after_space(text, 0)
    if position == len(text):
        raise _empty(path)
    if text[position] != "[":
        remedy = "Write a list of objects: [{...}, {...}]. A file with one object a line is named .jsonl."
        raise _error(path, None, f"expected a list, found {_found(text, position)}", remedy, "json.not_a_list")
    return after_space(text, position + 1)


def _first_value(text: str, position: int) -> object:
    """The value that begins there; `...` where it is broken."""
    try:
        return decoded(text, position, any_value=True)[0]
    except NotStrict:
        return ...


def _found(text: str, position: int) -> str:
    value = _first_value(text, position)
    if value is ...:
        return "something else"
    return f"one object with the keys {', '.join(map(repr, value))}" if isinstance(value, dict) else "a single value"


def _expect_list_end(text: str, position: int, path: Path, place: _Place) -> None:
    """Refuse whatever follows a list's last element but the list's end."""
    if position == len(text):
        _refuse(truncated(position), path, place(position))
    if text[position] != "]":
        problem = f"expected a comma or a closing bracket, found {text[position]!r}"
        raise _error(path, place(position), problem, "Correct the JSON at this place.", "json.syntax")
    after = after_space(text, position + 1)
    if after != len(text):
        remedy = "Keep one list in the file and nothing after it."
        raise _error(path, place(after), "more text after the list", remedy, "json.syntax")


def list_place(text: str, index: int) -> _Place:
    """What names a place in a list's record `index`, for errors."""
    return lambda offset: f"{index} ({_line_and_column(text, offset)})"


def _line_and_column(text: str, offset: int) -> str:
    return f"line {text.count(chr(10), 0, offset) + 1}, column {offset - text.rfind(chr(10), 0, offset)}"


def decode(data: bytes, path: Path, place: str | None = None) -> str:
    """The bytes as UTF-8, a byte order mark left out."""
    try:
        return text_of(data)
    except NotStrict as error:
        _refuse(error, path, place)


def _refuse(error: NotStrict, path: Path, place: str | None) -> NoReturn:
    raise _error(path, place, error.problem, error.remedy, error.code) from None


def _empty(path: Path) -> RecordError:
    return _error(path, None, "the file is empty", "Write at least one record.", "json.empty")


def _error(path: Path, place: str | None, problem: str, remedy: str, code: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=path, record=place, code=code)
