"""Turns, and pairs of answers, that a table's cell holds as JSON text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.data.conversations.turn_entries import ROLES, is_turn
from vlm_lit.files.json_text import NotStrict, only_value
from vlm_lit.schema import Record

_WORDS_OR_TURNS: Final = (
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "rejected_response",
    "preferred_output",
    "non_preferred_output",
)
"""Keys that hold words in some forms of records and turns in others, so that a text under them may be either."""

_BEGINS_AS_TURNS: Final = re.compile(r"\s*\[?\s*\{\s*['\"](?:role|from|content|value)['\"]\s*:")
_NAMES_ROLE: Final = re.compile(rf"['\"](?:role|from)['\"]\s*:\s*['\"](?:{'|'.join(ROLES)})['\"]", re.IGNORECASE)


def listed(record: Record, key: str) -> object:
    """What a key holds, a list that is written as JSON text as the list.

    Raises:
        RecordError: it is text that begins as a JSON list and is none.
    """
    value = record.fields.get(key)
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return only_value(value)
    except NotStrict as error:
        problem = f"{key} is text that begins as a JSON list and is none ({error})"
        raise refusal(record, problem, remedy="Write it as a list.", code="turns_type") from None


def with_turns_read(record: Record) -> Record:
    """The record with turns in place of JSON text of turns, under keys that could hold words as well.

    A text is read as turns where it is a JSON list of them, or one of them, and stays words otherwise: an answer may be
    JSON of another kind.

    Raises:
        RecordError: a text that is written as turns and is no JSON, as Python prints a list.
    """
    found = {key: turns for key in _WORDS_OR_TURNS if (turns := _turns(record, key)) is not None}
    return replace(record, fields={**record.fields, **found}) if found else record


def _turns(record: Record, key: str) -> list[object] | None:
    text = record.fields.get(key)
    if not isinstance(text, str) or not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = only_value(text)
    except NotStrict as error:
        if not _BEGINS_AS_TURNS.match(text) or not _NAMES_ROLE.search(text):
            return None
        problem = f"{key} is text that begins as a list of turns, and is no JSON ({error})"
        raise refusal(
            record, problem, remedy="Write the turns as a list, or as JSON text.", code="turns_type"
        ) from None
    entries = value if isinstance(value, list) else [value]
    return entries if entries and all(map(is_turn, entries)) else None


def pair_in_text(record: Record) -> Mapping[str, object] | None:
    """What a record's `text` holds where it is JSON text of `{question, chosen, rejected}`, as RLHF-V has it."""
    text = record.fields.get("text")
    if isinstance(text, str) and text.lstrip().startswith("{"):
        with suppress(NotStrict):
            value = only_value(text)
            if isinstance(value, Mapping) and {"chosen", "rejected"} <= value.keys():
                return value
    return None
