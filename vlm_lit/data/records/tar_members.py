"""Members of a WebDataset archive, looked at before it is read: none is a link, and none unpacks without end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import most_unpacked, unpacks_too_far

PACKED: Final[dict[str, Callable[[IO[bytes]], IO[bytes]]]] = {
    ".gz": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    ".bz2": lambda file: cast(IO[bytes], bz2.BZ2File(file)),
    ".xz": lambda file: cast(IO[bytes], lzma.LZMAFile(file)),  # noqa: SIM115 - whoever reads it closes it
}
_PACKED_OTHERWISE: Final = (".zst", ".lz4")
_AT_ONCE: Final = 2**20
_MOST_OF_ONE: Final = 64 * 2**20
"""Bytes of one packed member: it is the picture or the words of one sample."""


def check_members(path: Path) -> None:
    """Go through the headers of an archive; only members that are packed are read.

    Raises:
        RecordError: a member is a link or a device, or has gaps; or packed ones hold more bytes than the archive may.
        tarfile.TarError: it is damaged.
    """
    most, unpacked = most_unpacked(path), 0
    # Without a buffer, which would read some of a file behind each header.
    last = path.name
    with path.open("rb", buffering=0) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or they fill the memory
            if member.size < 0:
                raise _refusal(path, member, "its size is negative", "Write the archive again.")
            name, last = PurePosixPath(member.name), member.name
            if member.isdir() or name.name.startswith((".", "__")):
                continue
            if not member.isreg():
                remedy = "Write the archive with the files themselves: tar --dereference --hard-dereference."
                raise _refusal(path, member, "it is a link, or no file", remedy)
            if member.issparse():
                raise _refusal(path, member, "it has gaps (a sparse file)", "Write the archive without --sparse.")
            if name.suffix.lower() in _PACKED_OTHERWISE:
                raise _refusal(path, member, "it is packed", "Put the unpacked file into the archive.")
            if name.suffix.lower() in PACKED:
                found = _bytes_in(archive, member, name.suffix.lower(), _MOST_OF_ONE)
                unpacked += found if found <= _MOST_OF_ONE else most + 1
            if unpacked > most:
                raise unpacks_too_far(path, most)
        file.seek(archive.offset)
        _refuse_more(path, file, last)


def _refuse_more(path: Path, file: IO[bytes], last: str) -> None:
    """Refuse an archive that goes on behind its end: whatever reads it stops there, and says nothing."""
    while part := file.read(_AT_ONCE):
        if part.strip(b"\0"):
            problem = f"behind {last[:200]} it is damaged, or another archive was put behind this one"
            remedy = "Copy it again; archives are joined by tar --concatenate, not by cat, or read as a list."
            raise RecordError(problem, remedy=remedy, file=path, code="records.member")


def _bytes_in(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, most: int) -> int:
    """How many bytes a packed member holds; more than `most` where there are more."""
    found = 0
    packed = archive.extractfile(member)
    assert packed is not None
    with packed, PACKED[suffix](packed) as file:
        while found <= most and (part := file.read(_AT_ONCE)):
            found += len(part)
    return found


def _refusal(path: Path, member: tarfile.TarInfo, problem: str, remedy: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=path, record=member.name[:200], code="records.member")
