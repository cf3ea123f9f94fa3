"""Images of a record: the key that holds them, and the images under it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from vlm_lit.data.conversations.refusals import empty, refusal
from vlm_lit.data.conversations.slots import image_ref
from vlm_lit.errors import RecordError
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

IMAGE_NAME: Final = "image_name"
"""The key of an image's file (VQA-RAD) where nothing else of a record holds or shows one."""

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
    return images_under(record, key)


def images_under(record: Record, key: str) -> list[ImageRef]:
    """The images under one key; none where it is empty.

    Raises:
        RecordError: one of them cannot be used.
    """
    if empty(record.fields.get(key)):
        return []
    return [image_ref(record, one, key) for one in image_values(record, key)]


def are_names_of(record: Record, key: str, images: Sequence[ImageRef]) -> bool:
    """Whether a key says no more than the names of the files that these images are from.

    Images that the record holds itself have no name: each may be from any file.
    """
    try:
        names = [name for name in image_values(record, key) if not empty(name)]
    except RecordError:
        return False
    if len(names) > len(images) or not all(isinstance(name, str) for name in names):
        return False
    paths = [ref.path for ref in images if ref.path is not None]
    shown = {name for path in paths for name in (path.name, path.stem)}
    others = [name for name in names if str(name).replace("\\", "/").rpartition("/")[2] not in shown]
    return len(others) <= len(images) - len(paths)


def image_values(record: Record, key: str) -> list[object]:
    """What the record has of each image under a key.

    Raises:
        RecordError: it is a list that is written as text, and cannot be read.
    """
    value = record.fields[key]
    if isinstance(value, str) and _LIST_AS_TEXT.match(value):
        value = _from_text(record, key, value)
    if isinstance(value, Mapping) and value and all(_PLACEHOLDER_KEY.fullmatch(str(name)) for name in value):
        return _in_order(value)
    return list(value) if isinstance(value, list | tuple) else [value]


def _in_order(images: Mapping[object, object]) -> list[object]:
    """The images of `{"<image_00>": path, ...}` (MiniCPM-V) by number; as they stand where one has no number."""
    numbers = {name: re.search(r"[0-9]+", str(name)) for name in images}
    order = {name: int(found[0]) for name, found in numbers.items() if found is not None}
    return [images[name] for name in (sorted(images, key=order.__getitem__) if len(order) == len(images) else images)]


def _from_text(record: Record, key: str, text: str) -> object:
    try:
        return only_value(text.replace("'", '"') if '"' not in text else text)
    except NotStrict:
        remedy = 'Write it as a list of paths: ["a.png", "b.png"].'
        raise refusal(
            record, f"{key} begins as a list and is none: {text[:60]!r}", remedy=remedy, code="value"
        ) from None
