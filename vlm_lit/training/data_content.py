"""Identity of the data that a run saw: its record files by their contents, not by where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Final

from vlm_lit.data.records.sources import SourceSettings

_WHOLE: Final = 64 * 1024**2  # bytes up to which a file is read whole
_END: Final = 1024**2


def content(source: SourceSettings | None) -> dict[str, str] | None:
    """The local files that a source's records come from, by name, with their size and digest; None for a hub's.

    The pictures that records name are not looked at: they may be millions. A table that holds them is.
    """
    if source is None:
        return None
    found: dict[str, str] = {}
    for path in _paths(source):
        for name, described in _files(path).items():
            # Folders of one layout hold files of one name.
            found[name if found.get(name, described) == described else f"{path.parent.name}/{name}"] = described
    return found or None


def _paths(source: SourceSettings) -> Iterator[Path]:
    """The source's own files, and those that it is joined with."""
    own = [source.path] if isinstance(source.path, str) else source.path
    joined = [source.images_from.path] if source.images_from is not None else []
    for name in [*own, *joined, *([source.annotations] if source.annotations is not None else [])]:
        yield from [Path(name)] if Path(name).exists() else map(Path, sorted(glob(name)))  # noqa: PTH207 - as it is read


def _files(path: Path) -> dict[str, str]:
    if path.is_file():
        return {path.name: _described(path)}
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return {f"{path.name}/{file.relative_to(path)}": _described(file) for file in inside}
    return {}


def _described(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size} bytes, sha256 {_digest(path, about.st_size, about.st_mtime_ns)[:16]}"


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, _changed: int) -> str:
    """The digest of a file, of its first and last mebibyte alone where it is large; asked for at every checkpoint."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            digest.update(file.read(_END))
            file.seek(size - _END)
            digest.update(file.read(_END))
    return digest.hexdigest()
