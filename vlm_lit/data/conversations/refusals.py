"""Errors that refuse a record, and the check that a value of it is text."""

from __future__ import annotations

import re
from typing import Final

from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

_UNFILLED: Final = re.compile(r"\[ANNOTATE\b.*\]", re.DOTALL)
"""Words that `curate template` left to be written. "TODO: ..." may be a question about a list."""


def refusal(record: Record, problem: str, *, remedy: str, code: str) -> RecordError:
    """A `RecordError` about this record; `code` continues `conversation.`, or is whole where it holds a dot."""
    whole = code if "." in code else f"conversation.{code}"
    return RecordError(problem, remedy=remedy, file=record.file, record=record.name, code=whole)


def words(record: Record, value: object, what: str) -> str:
    """`value` if it is a string that can be encoded; `what` names it in the error.

    Raises:
        RecordError: it is no string, or holds half a surrogate pair.
    """
    if not isinstance(value, str):
        problem = f"{what} is {'missing' if value is None else 'a ' + type(value).__name__}, not a string"
        raise refusal(record, problem, remedy="Write it as a string.", code="value")
    try:
        value.encode()
    except UnicodeEncodeError:
        remedy = "Write both halves of the pair, or remove it: no tokenizer can encode one alone."
        raise refusal(record, f"half a surrogate pair in {what}", remedy=remedy, code="surrogate") from None
    return value


def digits_or_words(record: Record, value: object, what: str) -> str:
    """A string, or a whole number as its digits.

    Raises:
        RecordError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return words(record, value, what)


def refuse_unfilled(record: Record, question: str) -> None:
    """Refuse a question that is still to be written.

    Raises:
        RecordError: it is.
    """
    if _UNFILLED.fullmatch(question.strip()):
        problem = f"its question is still {question.strip()[:60]!r}"
        raise refusal(record, problem, remedy="Write the question, or take the record out.", code="unfilled")


def shown(value: object) -> str:
    """A value as an error message shows it."""
    return repr(value)[:60] if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def empty(value: object) -> bool:
    """Whether a field holds nothing: null, "", or a list or mapping of nothing."""
    if isinstance(value, dict):
        return all(empty(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(empty(item) for item in value)
    return value is None or value == ""
