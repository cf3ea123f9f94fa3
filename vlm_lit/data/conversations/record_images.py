"""Images of a record: the key that holds them, and the images under it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vlm_lit.data.conversations.refusals import empty, refusal
from vlm_lit.data.conversations.slots import image_ref
from vlm_lit.files.json_text import NotStrict, only_value
from vlm_lit.schema import ImageRef, Record

IMAGE_KEYS: Final = ("image", "images")
NAME_KEYS: Final = (
    "file_name",
    "image_path",
    "image_paths",
    "image_file",
    "image_files",
    "img_path",
    "img",
    "imgs",
)
"""Keys that hold the images of a record without `image` and `images`; beside these they only say a file's name."""

_LIST_AS_TEXT: Final = re.compile(r"\s*\[\s*[\"'\]]")
_PLACEHOLDER_KEY: Final = re.compile(r"<[\w| -]+>")


def image_key_of(record: Record) -> str | None:
    """The key that holds the record's images; None where there is none.

    Raises:
        RecordError: two keys hold some.
    """
    for keys in (IMAGE_KEYS, NAME_KEYS):
        found = [key for key in keys if not empty(record.fields.get(key))]
        if len(found) > 1:
            remedy = "Keep one of the two keys."
            raise refusal(record, f"both {found[0]} and {found[1]}", remedy=remedy, code="ambiguous")
        if found:
            return found[0]
    return None


def record_images(record: Record) -> list[ImageRef]:
    """The images under the record's own keys: one, a list, or none.

    Raises:
        RecordError: two keys hold some, or one of them cannot be used.
    """
    key = image_key_of(record)
    if key is None:
        return []
    value = record.fields[key]
    if isinstance(value, str) and _LIST_AS_TEXT.match(value):
        value = _from_text(record, key, value)
    if isinstance(value, Mapping) and value and all(_PLACEHOLDER_KEY.fullmatch(str(name)) for name in value):
        value = list(value.values())  # MiniCPM-V: {"<image_00>": path, ...}
    return [image_ref(record, one, key) for one in (value if isinstance(value, list | tuple) else [value])]


def _from_text(record: Record, key: str, text: str) -> object:
    try:
        return only_value(text.replace("'", '"') if '"' not in text else text)
    except NotStrict:
        remedy = 'Write it as a list of paths: ["a.png", "b.png"].'
        raise refusal(
            record, f"{key} begins as a list and is none: {text[:60]!r}", remedy=remedy, code="value"
        ) from None
