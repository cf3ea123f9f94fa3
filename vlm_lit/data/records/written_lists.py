"""Fields whose list is written as text, such as `['red', 'dark red']` in MMMU's options, read as lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlm_lit.errors import RecordError
from vlm_lit.files.list_text import begins_as_list, written_list
from vlm_lit.schema import Note, Record


def with_lists(record: Record, fields: Sequence[str]) -> Record:
    """The record with these fields' texts read as the lists they write; a text that does not begin as one stays.

    Raises:
        RecordError: there is no such field, or a text begins as a list and is none of texts.
    """
    read = {name: _read(record, name) for name in fields}
    return replace(record, fields={**record.fields, **read}) if read else record


def unread_lists(record: Record) -> Iterator[Note]:
    """A note for `answers` that are a list written as text: they are one answer unless `lists` names them."""
    if written_list(record.fields.get("answers")) is not None:
        yield Note(kind="text", about="answers that are a list written as text stay text; lists: [answers] reads it")


def _read(record: Record, name: str) -> object:
    if name not in record.fields:
        there = ", ".join(map(repr, record.fields))
        raise _refusal(record, f"no field {name!r}; there are {there}", "Correct the setting `lists`.")
    value = record.fields[name]
    found = written_list(value)
    if found is None and begins_as_list(value):
        problem = f"{name!r} begins as a list and is not one of texts: {str(value)[:60]!r}"
        raise _refusal(record, problem, f"Write it as ['red', 'blue'], or take {name} out of the setting `lists`.")
    return value if found is None else found


def _refusal(record: Record, problem: str, remedy: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=record.file, record=record.name, code="record.written_list")
