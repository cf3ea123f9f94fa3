"""Atomic, durable writing of files and folders: a reader finds the old one or the new one, whatever kills the writer.

What is written is staged beside its target, flushed to the disk, renamed, and the rename flushed as well: a kill, a
full disk or a power cut leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

Made = TypeVar("Made")

STAGED: Final = ".*.tmp-*"
"""Pattern of the names that files have while they are written; the number in them is their writer's process id."""

_STAGED: Final = re.compile(r"\..+\.tmp-(\d+)(?:-[0-9a-f]+)?")
_NOT_FOR_FOLDERS: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # some network file systems say so of fsync


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole, its folders made where they are not there; text as UTF-8.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    fill_whole(path, lambda staging: staging.write_bytes(data))


def fill_whole(path: Path, fill: Callable[[Path], object]) -> None:
    """Write a file whole by what writes it to a path of its own, its folders made where they are not there.

    Args:
        path: the file.
        fill: writes the content to the path it is given. Whatever it raises comes out, and nothing is left.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp-{os.getpid()}-{uuid4().hex[:8]}")  # other machines have our number too
    try:
        fill(staging)
        _to_disk(staging)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_folder_whole(folder: Path, fill: Callable[[Path], Made], *, replace: bool = False) -> Made:
    """Write a folder whole; what `fill` returns.

    Args:
        folder: the folder. One that is there must be empty, unless it is to be replaced.
        fill: writes the content into the empty folder it is given. Whatever it raises comes out, and nothing is left.
        replace: take the place of a folder that holds files. Those that the new one lacks are somebody else's and stay.

    Raises:
        OSError: it cannot be written, or is not empty and not to be replaced; what was there is there still.
    """
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=parent))
    try:
        staging.chmod(0o755)  # mkdtemp makes folders private
        made = fill(staging)
        for inside in _within(staging):
            _to_disk(inside)
        if replace and folder.exists():
            _swap(staging, folder)
        else:
            os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(parent)
    return made


def _swap(staging: Path, folder: Path) -> None:
    """Put `staging` in the place of `folder`, whose other files move over to it."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.absolute().parent))
    os.replace(folder, aside / "old")
    os.replace(staging, folder)
    for path in (aside / "old").iterdir():
        if not (folder / path.name).exists():
            os.replace(path, folder / path.name)
    shutil.rmtree(aside)


def _within(folder: Path) -> Iterator[Path]:
    """All files and folders in `folder`, what a folder holds before the folder, and itself last."""
    for inside in folder.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            yield from _within(inside)
        else:
            yield inside
    yield folder


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut; nothing where folders cannot be flushed.

    Raises:
        OSError: the disk refuses.
    """
    try:
        _to_disk(folder)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writer_of(path: Path) -> int | None:
    """The process that was writing the file staged as `path`; None where the name is of no staged file."""
    name = _STAGED.fullmatch(path.name)
    return int(name.group(1)) if name else None
