"""Samples of WebDataset shards as records: a sample's files by their endings, as `datasets` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlm_lit.data.conversations.record_images import NAME_KEYS

_PICTURES: Final = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
_WORDS: Final = ("txt", "text", "caption")
_KEY: Final = "__key__"


def shard_fields(row: Mapping[str, object]) -> Mapping[str, object]:
    """The record: what the sample's `.json` holds, its picture as `image`, its `.txt` as `caption`, its name as `id`.

    Names of pictures in the `.json` are those of the sample's own files, and say their order.
    """
    held = row.get("json")
    fields: dict[str, object] = dict(held) if isinstance(held, Mapping) else {}
    given = {key: value for key, value in row.items() if key != "json" and value is not None}
    pictures = [key for key in given if key.lower().rpartition(".")[2] in _PICTURES]
    order: list[str] = []
    texts = [key for key in given if key.lower() in _WORDS]
    if pictures:
        for key in ("image", "images", *NAME_KEYS):  # these name the files that the shard holds
            named = fields.pop(key, None)
            order = [_file_name(name) for name in named] if isinstance(named, list) else order
        sample = _file_name(row.get(_KEY))
        images = [given.pop(key) for key in sorted(pictures, key=lambda key: _place(key, sample, order))]
        fields["images" if len(images) > 1 else "image"] = images if len(images) > 1 else images[0]
    for key in texts[:1]:
        text = given.pop(key)
        fields.setdefault("caption", text)
    if _KEY in given:
        fields.setdefault("id", given.pop(_KEY))
    return {**given, **fields}


def _file_name(name: object) -> str:
    """The last part of a path, in small letters."""
    return str(name).replace("\\", "/").rpartition("/")[2].lower()


def _place(key: str, sample: str, order: list[str]) -> tuple[int, tuple[int, str]]:
    """Where the record's own list names the file `key` of a sample, else by the number before its ending.

    A list may name the file whole (`s1.left.png`), without the sample's name (`left.png`), or as another shard had it.
    """
    file = key.lower()
    named = [k for k, name in enumerate(order) if name in (file, f"{sample}.{file}")]
    named += [k for k, name in enumerate(order) if name.endswith(f".{file}")]
    listed = named[0] if named else len(order)
    stem = key.rpartition(".")[0]
    return listed, (int(stem) if stem.isdecimal() else 0, key)
