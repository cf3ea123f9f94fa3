"""Atomic, durable writing of files and folders: a reader finds the old one or the new one, whatever kills the writer.

What is written is staged beside its target, flushed to the disk, renamed, and the rename flushed as well: a kill, a
full disk or a power cut leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from vlm_lit.files.disk_errors import error_number
from vlm_lit.files.exchange import exchange
from vlm_lit.files.staged import staging_path, sweep

Made = TypeVar("Made")

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
    staging = staging_path(path)
    with _naming(path):
        try:
            fill(staging)
            _to_disk(staging)
            os.replace(staging, path)
        finally:
            staging.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_folder_whole(folder: Path, fill: Callable[[Path], Made], *, replace: bool = False) -> Made:
    """Write a folder whole; what `fill` returns. What killed writers of the same folder left is cleared away first.

    Args:
        folder: the folder. One that is there must be empty, unless it is to be replaced.
        fill: writes the content into the empty folder it is given. Whatever it raises comes out, and nothing is left.
        replace: take the place of a folder that holds files. Those that the new one lacks are somebody else's and stay.

    Raises:
        OSError: it cannot be written, or is not empty and not to be replaced; what was there is there still.
    """
    folder = folder.resolve() if folder.is_symlink() else folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent, folder.name)
    staging = staging_path(folder)
    with _naming(folder):
        staging.mkdir()
        try:
            made = fill(staging)
            replaces = replace and folder.exists()
            if replaces:
                _keep_others(folder, staging)
            settle(staging, folder, replace=replaces)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return made


def settle(staging: Path, folder: Path, *, replace: bool) -> None:
    """Give a folder that was filled under another name its own; one that it replaces is then behind the other name.

    Args:
        staging: the filled folder, from `staging_path`.
        folder: beside it, what it is to be called.
        replace: whether a folder of that name is there.

    Raises:
        OSError: the disk refuses; what was there is there still.
    """
    for inside in _within(staging):
        _to_disk(inside)
    if replace:
        _take_place(staging, folder)
    else:
        os.replace(staging, folder)
    sync_folder(folder.parent)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """What the disk refuses within comes out as an OSError that names the target, and not where it was staged.

    Raises:
        OSError: the disk refuses.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(target)
        raise
    except Exception as error:
        number = error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(target)) from error


def _keep_others(folder: Path, staging: Path) -> None:
    """Put what `staging` lacks of a folder into it as well, so that the folder as a whole can go."""
    for path in folder.iterdir():
        target = staging / path.name
        if os.path.lexists(target):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=_linked)
        else:
            _linked(path, target)


def _linked(path: str | Path, target: str | Path) -> None:
    """The same file under a second name; a copy where the file system has no such names."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)


def _take_place(staging: Path, folder: Path) -> None:
    """Give `staging` the name of `folder`, which leaves the old one under the name of `staging`, or nowhere."""
    if exchange(staging, folder):
        return
    old = staging_path(folder, "old")  # a kill before the second renaming is mended by `sweep`
    os.replace(folder, old)
    try:
        os.replace(staging, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _within(folder: Path) -> Iterator[Path]:
    """All files and folders in `folder`, what a folder holds before the folder, and itself last; no links."""
    for inside in folder.iterdir():
        if inside.is_symlink():
            continue  # what it leads to is not ours to flush
        if inside.is_dir():
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
