"""Records of a `.json` file, in each layout that is accepted.

A `.json` file may hold a list of them, one a line, a list under a key, or a mapping by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from vlm_lit.data.conversations.record_forms import CAPTION_KEYS, QUESTION_KEYS, TURN_KEYS
from vlm_lit.data.conversations.refusals import empty
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.open_text import begins_with
from vlm_lit.files.strict_json import iter_json_lines, iter_json_list, whole_object

_USUAL: Final = ("data", "annotations", "questions", "records", "examples", "samples", "items", "train", "rows")
_ABOUT: Final = ("info", "license", "licenses", "metadata")
_OF_A_RECORD: Final = (*TURN_KEYS, *QUESTION_KEYS, *CAPTION_KEYS)
_OF_ALL: Final = ("system", "system_prompt", "system_message", "tools")
_REMEDY: Final = "Say which key holds them by the setting `records`, for example records: data."


def iter_json_file(path: Path, key: str | None = None) -> Iterator[dict[str, object]]:
    """Yield the records of a `.json` file in order.

    Args:
        path: the file.
        key: the key of its one object that holds the records; null to find it.

    Raises:
        RecordError: the file is broken, holds no records, or several keys may hold them.
    """
    whole = whole_object(path) if begins_with(path, b"{") else None
    if key is not None and not isinstance(whole, dict):
        raise ConfigError(f"records is {key}, and {path} is no object with keys. Leave it out.")
    if whole is None:
        yield from iter_json_list(path, chats=True)
    elif isinstance(whole, dict):
        yield from _within(path, whole, key)
    else:
        yield from iter_json_lines(path, chats=True)


def _within(path: Path, whole: dict[str, object], key: str | None) -> Sequence[dict[str, object]]:
    if key is not None:
        if key not in whole:
            raise ConfigError(f"records is {key}; the keys of {path} are {', '.join(whole)}.")
        found = _records(whole[key])
        if found is None:
            problem = f"{key} holds no list of objects and no objects by id"
            raise RecordError(problem, remedy="Correct the setting `records`.", file=path, code="json.form")
        return found
    holders = [
        name for name, value in whole.items() if name not in _ABOUT and isinstance(value, list) and _records(value)
    ]
    if any(name in whole for name in _OF_A_RECORD) and not any(name in _USUAL for name in holders):
        return [whole]
    by_id = _records({name: value for name, value in whole.items() if name not in _ABOUT})
    if by_id is not None:
        return by_id
    there = ", ".join(whole)[:200]
    if len(holders) != 1:
        problem = f"{'several keys hold' if holders else 'no key holds'} a list of records; its keys are {there}"
        raise RecordError(problem, remedy=_REMEDY, file=path, code="json.form")
    beside = [name for name in (*_OF_A_RECORD, *_OF_ALL) if not empty(whole.get(name))]
    if beside:
        problem = f"{beside[0]} stands beside the records under {holders[0]}"
        remedy = f"Put it into each record, or say records: {holders[0]} to leave it out."
        raise RecordError(problem, remedy=remedy, file=path, code="json.form")
    return _records(whole[holders[0]]) or []


def _records(value: object) -> list[dict[str, object]] | None:
    """The objects of a list, or of a mapping by id, which they then hold; None for anything else."""
    if isinstance(value, list):
        return value if value and all(isinstance(entry, dict) for entry in value) else None
    if isinstance(value, Mapping) and value and all(isinstance(entry, dict) for entry in value.values()):
        return [{"id": name, **entry} for name, entry in value.items()]
    return None
