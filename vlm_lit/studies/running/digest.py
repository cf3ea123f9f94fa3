"""Digest of a cell, over what its config files hold and what is set over them: it shows a changed cell.

What files say counts, not where they lie, nor their comments; the data that a config names is not looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.studies.running.cell import Cell, configs, settings
from vlm_lit.studies.running.study_file import Study

_OWN: Final = ("run_dir", "seed_everything")  # replaced by the cell's
_DEEPEST: Final = 16


def digests(study: Study, cells: Iterable[Cell]) -> dict[str, str]:
    """The digest of each cell, by its key.

    Raises:
        ConfigError: a config file cannot be read.
    """
    read: dict[Path, object] = {}
    return {cell.key: _digest(study, cell, read) for cell in cells}


def digest_of(content: object) -> str:
    """SHA-256 of plain data, in hexadecimal digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _digest(study: Study, cell: Cell, read: dict[Path, object]) -> str:
    files = [_without_own(_content(path, read)) for path in configs(study, cell)]
    return digest_of([files, settings(study, cell), cell.seed])


def _without_own(content: object) -> object:
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in _OWN}


def _content(path: Path, read: dict[Path, object], depth: int = 0) -> object:
    """What a config file holds, the files that it names put in their places."""
    if path not in read:
        if depth > _DEEPEST:
            raise ConfigError(f"{path}: this config file names itself, or a chain of more than {_DEEPEST} files.")
        read[path] = _expanded(read_strict(path, "config"), path.parent, read, depth)
    return read[path]


def _expanded(value: object, folder: Path, read: dict[Path, object], depth: int) -> object:
    if isinstance(value, dict):
        return {str(key): _expanded(inner, folder, read, depth) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, folder, read, depth) for inner in value]
    if isinstance(value, str) and value.endswith((".yaml", ".yml")) and (folder / value).is_file():
        return _content(folder / value, read, depth + 1)
    return value
