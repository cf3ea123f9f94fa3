"""Options of multiple-choice questions: how they are shown, and the letter of the right one.

`choices` are the options in order, as `option_texts` reads them. Data sets say which of them is right by its position,
as a number (ScienceQA, A-OKVQA) or as a number in quotes (AI2D); `answer_index` holds it here. What a model answers is
the letter.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.schema import Record

CHOICES: Final = "choices"
ANSWER_INDEX: Final = "answer_index"
MOST_CHOICES: Final = len(string.ascii_uppercase)
_LETTERS: Final[Sequence[object]] = list(string.ascii_uppercase)


def as_lines(options: Sequence[str]) -> str:
    """`A. red`, `B. green`, ..., a line each, as LLaVA's prompts show options; `MOST_CHOICES` at most."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False))


def choices_of(record: Record) -> tuple[str, ...]:
    """The options' texts; none for a record that has no options under `choices`, or a text there.

    Raises:
        RecordError: they are of a kind that is not read.
    """
    value = record.fields.get(CHOICES)
    texts = option_texts(value)
    if texts is None:
        raise refusal(
            record,
            f"{CHOICES!r} is {repr(value)[:60]}, and options are texts or numbers, listed or by letters",
            remedy=f'Write them as ["red", "blue"] or {{"A": "red", "B": "blue"}}; or name the field in ignore_keys to '
            f"read the record without it (ignore_keys: [{CHOICES}]).",
            code="choices",
        )
    return texts


def option_texts(value: object) -> tuple[str, ...] | None:
    """The texts of options, a number as it is spelled; none of nothing or a text, None for a kind that is not read.

    Read are a list, an object by letters (`{"A": "red", "B": "blue"}`) and ARC's `{"text": [...], "label": [...]}`.
    """
    if value is None or isinstance(value, str):
        return ()
    listed = _by_letters(value) if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple) or not all(map(_is_option, listed)):
        return None
    return tuple(map(str, listed))


def _by_letters(options: Mapping[object, object]) -> object:
    """The options of an object in the order of their letters A, B, ...; None where it has other keys."""
    if options.keys() == {"text", "label"}:
        texts, labels = options["text"], options["label"]
        if not isinstance(texts, list | tuple) or not isinstance(labels, list | tuple) or len(texts) != len(labels):
            return None
        return texts if list(labels) == _LETTERS[: len(labels)] else None
    there = [key for key, text in options.items() if text is not None]  # a table has null for letters that a row lacks
    return [options[key] for key in there] if there == _LETTERS[: len(there)] else None


def _is_option(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def lettered(fields: Mapping[str, object], holds: Callable[[object], bool]) -> tuple[list[object], str | None]:
    """What fields A, B, ... hold up to the first letter without an option, and the first letter behind it with one."""
    there = list(takewhile(holds, map(fields.get, string.ascii_uppercase)))
    behind = string.ascii_uppercase[len(there) :]
    return there, next((letter for letter in behind if holds(fields.get(letter))), None)


def with_lettered_choices(record: Record) -> Record:
    """The record with its options under `choices`, where fields A, B, ... hold them as in VLMEvalKit's tables.

    Raises:
        RecordError: an option stands behind a letter that has none.
    """
    if record.fields.get(CHOICES) is not None or not all(_is_option(record.fields.get(key)) for key in "AB"):
        return record
    texts, lost = lettered(record.fields, _is_option)
    if lost is not None:
        remedy = f"Write the options without a gap; or rename {lost} if it is none (columns: {{other: {lost}}})."
        raise refusal(
            record, f"it has an option {lost} and none at {_LETTERS[len(texts)]}", remedy=remedy, code="choices"
        )
    return replace(record, fields={**record.fields, CHOICES: texts})


def right_letter(record: Record) -> str | None:
    """The letter that `answer_index` stands for; None for a record that has no such field.

    Raises:
        RecordError: there are no choices, or the index is none of them.
    """
    index = record.fields.get(ANSWER_INDEX)
    if index is None:
        return None
    position, count = _whole(index), min(len(choices_of(record)), MOST_CHOICES)
    if position is None or not 0 <= position < count:
        raise refusal(
            record,
            f"{ANSWER_INDEX} is {index!r} where there are {count} choices with letters",
            remedy=f"Give the options as a list under {CHOICES}, and count from 0 which of them is right.",
            code="answer_index",
        )
    return string.ascii_uppercase[position]


def _whole(index: object) -> int | None:
    """A whole number, its digits, or the same as `1.0`, which a table with empty cells makes of it."""
    if isinstance(index, str):
        digits = index.removesuffix(".0")
        return int(digits) if digits.isdecimal() else None
    if isinstance(index, float):
        return int(index) if index.is_integer() else None
    return index if isinstance(index, int) and not isinstance(index, bool) else None
