"""Reading of text files that may be packed by gzip."""

from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path
from typing import IO, Any, Final, cast

from vlm_lit.errors import RecordError

_PACKED: Final = ".gz"
_MOST_UNPACKED: Final = 64 * 1024**2
_MOST_TIMES: Final = 250
"""How many times its packed bytes a file may have; records have ten to fifty times."""

_OTHERS: Final = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How files begin that gzip, zip, bzip2, xz and zstd packed."""


def format_of(path: Path) -> str:
    """A file's ending in small letters, without that of its packing: `.jsonl` for `a.JSONL.gz`."""
    path = path.with_suffix("") if path.suffix.lower() == _PACKED else path
    return path.suffix.lower()


def is_packed_otherwise(path: Path) -> bool:
    """Whether a file is packed although its name does not say so; no for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return path.suffix.lower() != _PACKED and file.read(6).startswith(_OTHERS)
    except OSError:
        return False


def most_unpacked(path: Path) -> int:
    """How many bytes a file may unpack to: 250 times its own, and 64 MiB at least."""
    return max(_MOST_UNPACKED, _MOST_TIMES * path.stat().st_size)


def unpacks_too_far(path: Path, most: int) -> RecordError:
    """The error about a file that unpacks to more than that."""
    problem = f"unpacked it has more than {most:,} bytes, and {path.stat().st_size:,} as it is"
    remedy = "Records do not pack so well. If they do, write the file without compression yourself."
    return RecordError(problem, remedy=remedy, file=path, code="records.packed")


class _Unpacked(io.RawIOBase):
    """A packed file's bytes, as many as its size allows: a megabyte of them can stand for a terabyte."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, gzip.open(path, "rb")  # noqa: SIM115 - closed with this one
        self.most = most_unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as io has it
        found = self.file.read(len(buffer))
        buffer[: len(found)] = found
        if self.file.tell() > self.most:
            raise unpacks_too_far(self.path, self.most)
        return len(found)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        super().close()


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked as they are read.

    Raises:
        RecordError: while they are read: they are too many for its size.
    """
    return cast(IO[bytes], io.BufferedReader(_Unpacked(path))) if path.suffix.lower() == _PACKED else path.open("rb")


def read_bytes(path: Path) -> bytes:
    """All of a file's bytes, unpacked."""
    with open_bytes(path) as file:
        return file.read()


def begins_with(path: Path, first: bytes) -> bool:
    """Whether a file's text begins so, after blanks and a byte order mark."""
    with open_bytes(path) as file:
        return file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(first)
