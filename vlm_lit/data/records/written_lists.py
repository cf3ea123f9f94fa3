"""Fields whose list is written as text, such as `['red', 'dark red']` in MMMU's options, read as lists."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

_BEGINNING: Final = re.compile(r"\s*\[\s*['\"\]]")
"""A bracket alone may begin an interval, `[0, 1)`, which is an answer too."""

_LONGEST: Final = 100_000
"""Letters. Python's own parser reads these texts, and a hostile one could cost it the process' memory."""


def with_lists(record: Record, fields: Sequence[str]) -> Record:
    """The record with these fields' texts read as the lists they write; a text that does not begin as one stays.

    Raises:
        RecordError: there is no such field, or a text begins as a list and is none of texts.
    """
    read = {name: _read(record, name) for name in fields}
    return replace(record, fields={**record.fields, **read}) if read else record


def _read(record: Record, name: str) -> object:
    if name not in record.fields:
        there = ", ".join(map(repr, record.fields))
        raise _refusal(record, f"no field {name!r}; there are {there}", "Correct the setting `lists`.")
    value = record.fields[name]
    if not isinstance(value, str) or not _BEGINNING.match(value):
        return value
    try:
        found = ast.literal_eval(value.strip()) if len(value) <= _LONGEST else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        problem = f"{name!r} begins as a list and is not one of texts: {value[:60]!r}"
        raise _refusal(record, problem, f"Write it as ['red', 'blue'], or take {name} out of the setting `lists`.")
    return found


def _refusal(record: Record, problem: str, remedy: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=record.file, record=record.name, code="record.written_list")
