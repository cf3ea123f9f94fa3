"""Samples of WebDataset shards as records: a sample's files by their endings, as `datasets` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from vlm_lit.data.conversations.record_images import NAME_KEYS

PICTURES: Final = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
TEXTS: Final = ("txt", "text", "caption", "transcript")
NUMBERS: Final = ("cls", "cls2", "index", "inx", "id")
_WORDS: Final = ("txt", "text", "caption")
_KEY: Final = "__key__"
_DIGITS: Final = re.compile(r"[0-9]+")


class UnclearPictures(ValueError):  # noqa: N818 - a finding about a sample; `RecordError` is what users see
    """Pictures that a sample's `.json` names and that are not its files."""


def shard_fields(row: Mapping[str, object]) -> Mapping[str, object]:
    """The record: what the sample's `.json` holds, its picture as `image`, its `.txt` as `caption`, its name as `id`.

    Names of pictures in the `.json` are those of the sample's own files: they say which are shown, in which order.

    Raises:
        UnclearPictures: it names more or fewer pictures than there are, and others than there are.
    """
    described = next((key for key in row if key.lower() == "json"), "")
    held = row.get(described)
    fields: dict[str, object] = dict(held) if isinstance(held, Mapping) else {}
    given = {key: value for key, value in row.items() if value is not None and not (key == described and fields)}
    if pictures := [key for key in given if key.lower().rpartition(".")[2] in PICTURES]:
        names: list[str] = []
        for key in ("image", "images", *NAME_KEYS):  # these name the files that the shard holds
            names = names or _names(fields.pop(key, None))
        shown = _shown(pictures, _file_name(row.get(_KEY)), names)
        images = [given[key] for key in shown]
        given = {key: value for key, value in given.items() if key not in shown}
        fields["images" if len(images) > 1 else "image"] = images if len(images) > 1 else images[0]
    texts = [key for key in given if key.lower() in _WORDS]
    if len(texts) == 1:
        text = given.pop(texts[0])
        fields.setdefault("caption", text)
    if _KEY in given:
        fields.setdefault("id", given.pop(_KEY))
    return {**given, **fields}


def _names(value: object) -> list[str]:
    """What a `.json` calls its pictures."""
    values = value if isinstance(value, list) else [value]
    return [_file_name(name) for name in values if isinstance(name, str) and name]


def _file_name(name: object) -> str:
    """The last part of a path, in small letters."""
    return str(name).replace("\\", "/").rpartition("/")[2].lower()


def _shown(pictures: Sequence[str], sample: str, names: Sequence[str]) -> list[str]:
    """Which pictures of a sample are shown, in order: those that its `.json` names, else all by their numbers.

    Where it names as many as there are by other names, as another shard had them, those that are known go first.
    """
    found = [_called(pictures, sample, name) for name in names]
    known = [key for key in found if key is not None]
    if names and len(known) == len(names) and len(set(known)) == len(set(names)):
        return known
    if names and len(names) != len(pictures):
        raise UnclearPictures(f"its .json names {', '.join(names)[:200]}, and it has {', '.join(pictures)[:200]}")
    return [*dict.fromkeys(known), *sorted((key for key in pictures if key not in known), key=_number)]


def _called(pictures: Sequence[str], sample: str, name: str) -> str | None:
    """The picture that is called so: whole (`s1.left.png`), without the sample (`left.png`), or as it was elsewhere."""
    whole = (key for key in pictures if name in (key.lower(), f"{sample}.{key.lower()}"))
    return next(whole, next((key for key in pictures if name.endswith(f".{key.lower()}")), None))


def _number(key: str) -> tuple[list[tuple[str, int]], str]:
    """A picture's place by the numbers in its name: `img2.png` before `img10.png`."""
    stem = key.rpartition(".")[0]
    words, numbers = _DIGITS.split(stem), [*map(int, _DIGITS.findall(stem)), -1]
    return list(zip(words, numbers, strict=True)), key
