"""Reading of text files that may be packed by gzip."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path
from typing import IO, Final, cast

_PACKED: Final = ".gz"


def format_of(path: Path) -> str:
    """A file's ending in small letters, without that of its packing: `.jsonl` for `a.JSONL.gz`."""
    path = path.with_suffix("") if path.suffix.lower() == _PACKED else path
    return path.suffix.lower()


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked as they are read."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == _PACKED else path.open("rb")


def read_bytes(path: Path) -> bytes:
    """All of a file's bytes, unpacked."""
    with open_bytes(path) as file:
        return file.read()


def begins_with(path: Path, first: bytes) -> bool:
    """Whether a file's text begins so, after blanks and a byte order mark."""
    with open_bytes(path) as file:
        return file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(first)
