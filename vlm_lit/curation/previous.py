"""The pictures of an earlier curation: their hashes and the split that each is to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.curation.placing import SPLITS
from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_json import iter_json_lines

PICTURE_LIST: Final = "pictures.jsonl"
SUMMARY: Final = "curation.json"


@dataclass(frozen=True, kw_only=True)
class EarlierPicture:
    """A picture by its digest, its hashes, and its split."""

    digest: str
    hashes: tuple[int, ...]
    split: str


def earlier_pictures(folder: Path) -> list[EarlierPicture]:
    """What an earlier curation placed.

    Raises:
        ConfigError: the folder holds none.
    """
    path = folder / PICTURE_LIST
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {PICTURE_LIST}, which `curate` writes. Name the folder of a curation.")
    return [_picture(row, path) for row in iter_json_lines(path)]


def _picture(row: dict[str, object], path: Path) -> EarlierPicture:
    digest, hashes, split = row.get("digest"), row.get("phash"), row.get("split")
    if not isinstance(digest, str) or not isinstance(hashes, list) or split not in SPLITS:
        raise ConfigError(f"{path} is not what `curate` wrote. Name the folder of a curation.")
    return EarlierPicture(digest=digest, hashes=tuple(int(str(one), 16) for one in hashes), split=str(split))


def picture_lines(pictures: Sequence[EarlierPicture]) -> str:
    """The list as it is kept beside the rows."""
    return "".join(
        json.dumps({"digest": one.digest, "split": one.split, "phash": [f"{value:016x}" for value in one.hashes]})
        + "\n"
        for one in pictures
    )


def same_rules(folder: Path, rules: dict[str, object]) -> bool:
    """Whether the curation in a folder split by these rules; no for a folder without one."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["settings"]
        return all(found[name] == value for name, value in rules.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
