"""Digests of records and pictures, one each, so that a changed word or pixel is found and named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Final

from vlm_lit.data.images.images import image_digest
from vlm_lit.schema import DataItem
from vlm_lit.training.certifying.certificate import SplitDigests

LENGTH: Final = 16
"""Hexadecimal digits of a digest that are kept: 64 bits. Two of a million differ by chance in one case of 10^7."""

# Pictures have digests of their own; where a record stands and what of it is not used says nothing to a model.
_LEFT_OUT: Final = ("images", "file", "record", "notes")


def split_digests(items: Iterable[DataItem]) -> SplitDigests:
    """The digests of a split's items, in their order.

    Raises:
        OSError: a picture cannot be read.
    """
    places: dict[str, int] = {}
    digests: list[str] = []
    found = SplitDigests(ids=[], words=[], pictures_of=[], pictures=digests, names=[])
    for item in items:
        found.ids.append(item.id)
        found.words.append(said_digest(item))
        shown = []
        for number, ref in enumerate(item.images):
            name = str(ref.path.absolute()) if ref.path is not None else f"picture {number + 1} of {item.id}"
            if name not in places:
                places[name] = len(digests)
                digests.append(image_digest(ref)[:LENGTH])
            shown.append(places[name])
        found.pictures_of.append(shown)
    found.names.extend(_below_common(list(places)))
    return found


def said_digest(item: DataItem) -> str:
    """The digest of what an item says: its turns, answers, choices and groups."""
    return hashlib.sha256(json.dumps(_said(item), sort_keys=True).encode()).hexdigest()[:LENGTH]


def _said(value: object) -> object:
    if is_dataclass(value):
        return {field.name: _said(getattr(value, field.name)) for field in fields(value) if field.name not in _LEFT_OUT}
    if isinstance(value, Mapping):
        return {str(key): _said(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_said(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else repr(value)


def _below_common(names: list[str]) -> list[str]:
    """Paths without the folders that all have in common; names that are no paths as they are."""
    paths = [Path(name) for name in names]
    folders = [path.parent for path in paths if path.is_absolute()]
    if not folders:
        return names
    common = os.path.commonpath(folders)
    return [path.relative_to(common).as_posix() if path.is_absolute() else str(path) for path in paths]
