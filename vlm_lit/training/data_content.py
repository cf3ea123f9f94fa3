"""Which data did a run see? The files it reads its records from, by what is in them and not by where they lie."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from vlm_lit.data.sources import SourceSettings

_WHOLE: Final = 64 * 1024**2  # bytes up to which a file is read whole
_END: Final = 1024**2


def content(source: SourceSettings | None) -> dict[str, str] | None:
    """The local files that a source's records come from, by name, with their size and digest; None for a hub's.

    The pictures that records name are not looked at: they may be millions. A table that holds them is.
    """
    if source is None:
        return None
    paths = [source.path] + ([source.images_from.path] if source.images_from is not None else [])
    found = {name: described for path in paths for name, described in _files(Path(path)).items()}
    return found or None


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
