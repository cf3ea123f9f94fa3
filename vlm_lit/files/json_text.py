"""Strict JSON decoding of one text: nothing in it is silently changed.

The standard parser keeps the last of two equal keys, takes `NaN` and `1e400` for numbers, and lets half a
surrogate pair through to a tokenizer that cannot encode it. Here each of these is refused.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

MAX_DEPTH: Final = 64
"""Levels of nesting a record may have. Data sets use five; a limit of our own is the same on every Python version."""

MAX_DIGITS: Final = 100
"""Digits an integer may have: more than any id, fewer than where `int` itself refuses (4300)."""

OfObject: TypeAlias = Callable[[dict[str, object]], object]
"""What an object becomes, once its keys are known to differ."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SUSPECT_ESCAPE: Final = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class NotStrict(Exception):  # noqa: N818 - the readers make a RecordError of it, with file and record
    """A text that is no strict JSON.

    Args:
        problem: what is wrong.
        remedy: what to do about it.
        code: the reason in one stable word.
        offset: where in the text it is, as far as that is known.
    """

    def __init__(self, problem: str, remedy: str, code: str, offset: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.code, self.offset = problem, remedy, code, offset


def text_of(data: bytes) -> str:
    """A file's text: UTF-8, with or without a byte order mark, since that changes nothing.

    Raises:
        NotStrict: it is in another encoding.
    """
    # Text that JSON allows never holds a zero byte, so one at the start is half of a two-byte character.
    if data.startswith(_WIDE_MARKS) or b"\0" in data[:4]:
        raise NotStrict("the file is UTF-16 or UTF-32", "Save it as UTF-8.", "json.utf16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f" on line {data.count(10, 0, error.start) + 1}" if b"\n" in data.rstrip() else ""
        problem = f"byte {error.start}{where} (0x{data[error.start]:02x}) is not UTF-8"
        raise NotStrict(problem, "Save the file as UTF-8.", "json.encoding") from None


def after_space(text: str, position: int) -> int:
    """The offset of what comes after white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def decoded(
    text: str, start: int = 0, *, any_value: bool = False, of_object: OfObject | None = None
) -> tuple[object, int]:
    """The value that begins at `start`, and the offset of what follows it.

    Args:
        text: the text.
        start: where the value begins.
        any_value: take NaN, infinities and texts with any character, as a run, whose texts a model wrote, leaves them.
        of_object: makes something else of each object.

    Raises:
        NotStrict: it is no strict JSON.
    """
    decoder = _decoder(any_value, of_object) if of_object else _ANY_VALUE if any_value else _STRICT
    try:
        value, end = decoder.raw_decode(text, start)
        _check_depth(text, start, end, value)
        if not any_value:
            _check_strings(text, start, end, value)
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
            raise truncated(error.pos) from None
        raise NotStrict(f"not JSON: {error.msg}", "Correct the JSON at this place.", "json.syntax", error.pos) from None
    except RecursionError:
        raise NotStrict(*_TOO_DEEP) from None
    return value, end


def only_value(text: str, *, any_value: bool = False, of_object: OfObject | None = None) -> object:
    """The one value that a text holds; arguments as those of `decoded`.

    Raises:
        NotStrict: it is no strict JSON, or more stands after it.
    """
    value, end = decoded(text, after_space(text, 0), any_value=any_value, of_object=of_object)
    if after_space(text, end) != len(text):
        raise NotStrict("more text after the value", "Keep one value there.", "json.syntax", end)
    return value


def truncated(offset: int) -> NotStrict:
    """What is wrong with a text that ends too early."""
    return NotStrict(
        "the text ends too early", "The file was cut short: copy or write it again.", "json.truncated", offset
    )


_TOO_DEEP: Final = (f"nested deeper than {MAX_DEPTH} levels", "Flatten the record.", "json.too_deep")


def _decoder(any_value: bool, of_object: OfObject | None = None) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=(lambda pairs: of_object(_object(pairs))) if of_object else _object,
        parse_constant=None if any_value else _constant,
        parse_int=_integer,
        parse_float=_number,
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotStrict(
            f"the key {twice!r} stands twice in one object",
            "Keep one of the two: a parser would drop the first without a word.",
            "json.duplicate_key",
        )
    return fields


def _constant(word: str) -> NoReturn:
    raise NotStrict(f"{word} is not JSON", "Write a number, or null for a missing value.", "json.not_a_number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise NotStrict(f"an integer of {len(digits)} digits", "Write it as a string.", "json.huge_number")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise NotStrict(f"{digits[:20]} is too large for a number", "Write it as a string.", "json.huge_number")
    return value


_STRICT: Final = _decoder(any_value=False)
_ANY_VALUE: Final = _decoder(any_value=True)


def _check_depth(text: str, start: int, end: int, value: object) -> None:
    # Counting brackets is quick and settles almost every record; only the others are walked.
    if text.count("[", start, end) + text.count("{", start, end) <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if any(isinstance(item, dict | list) for item in level):
        raise NotStrict(*_TOO_DEEP)


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
        raise NotStrict("a string holds the zero character (\\u0000)", "Remove it.", "json.zero_character")
    if any("\ud800" <= letter <= "\udfff" for letter in words):
        remedy = "Write both halves of the pair, or remove it: no tokenizer can encode one alone."
        raise NotStrict(f"half a surrogate pair in {words[:40]!r}", remedy, "json.lone_surrogate")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
