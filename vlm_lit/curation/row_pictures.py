"""Pictures of a row: wherever its fields name or hold one, the place is given to a function and takes its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from vlm_lit.data.conversations.numbered_images import numbered_columns
from vlm_lit.data.conversations.record_forms import TURN_KEYS
from vlm_lit.data.conversations.record_images import IMAGE_NAME, image_key_of, image_values
from vlm_lit.data.conversations.refusals import empty
from vlm_lit.schema import Record

Placed: TypeAlias = Callable[[object], str]
"""Takes a picture as a row has it, and gives the path that the written row has for it."""

_FILE_NAMES: Final = re.compile(r".+_file_names?")
_PART_TYPES: Final = ("image", "image_url", "input_image")
_SOURCES: Final = ("image", "image_url", "path", "url", "value", "source", "base64", "data")
_INNER: Final = ("url", "data", "path", "bytes")


def with_pictures(record: Record, placed: Placed) -> dict[str, object]:
    """The record's fields, each picture replaced by what `placed` gives for it, under `image` or `images`.

    Raises:
        RecordError: two keys hold pictures, or a list of them cannot be read.
    """
    fields = dict(record.fields)
    key = image_key_of(record) or _named_file(fields)
    if key is None:
        fields = _with_shown(record, placed)
        key = IMAGE_NAME if fields == record.fields else None
    if key is None or empty(fields.get(key)):
        return fields
    paths = [placed(value) for value in image_values(record, key)]
    del fields[key]
    fields["images" if len(paths) > 1 else "image"] = paths if len(paths) > 1 else paths[0]
    return fields


def _with_shown(record: Record, placed: Placed) -> dict[str, object]:
    """The fields of a record whose pictures stand in columns of numbers or in its turns."""
    fields, columns = dict(record.fields), numbered_columns(record).values()
    for name, value in record.fields.items():
        if name in columns:
            fields[name] = placed(value)
        elif (name in TURN_KEYS or name == "prompt") and isinstance(value, list):
            fields[name] = [_entry(entry, placed) for entry in value]
    return fields


def _named_file(fields: Mapping[str, object]) -> str | None:
    """`photo_file_name` or `page_file_names`, as metadata files of image folders have them."""
    return next((key for key, value in fields.items() if _FILE_NAMES.fullmatch(key) and not empty(value)), None)


def _entry(entry: object, placed: Placed) -> object:
    if not isinstance(entry, Mapping):
        return entry
    return {key: [_part(part, placed) for part in v] if isinstance(v, list) else v for key, v in entry.items()}


def _part(part: object, placed: Placed) -> object:
    """A part of a turn's content; an image part that holds no picture of its own is a place for one of the record's."""
    if not isinstance(part, Mapping):
        return part
    kind = part.get("type") or next((key for key in _PART_TYPES[:2] if part.get(key) is not None), None)
    if kind not in _PART_TYPES:
        return part
    for key in _SOURCES:
        value = part.get(key)
        if not empty(value):
            if isinstance(value, Mapping):
                value = next((v for name in _INNER if not empty(v := value.get(name))), value)
            return {"type": "image", "image": placed(value)}
    return part
