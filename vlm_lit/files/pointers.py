"""Detection of what is no data file: a Git LFS pointer, or the web page of a failed download."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_POINTER: Final = b"version https://git-lfs"
LFS_PROBLEM: Final = "a Git LFS pointer, not the file itself"
LFS_REMEDY: Final = "Run git lfs install and git lfs pull in the folder that it was cloned into, or download the file."


def is_pointer(first: bytes) -> bool:
    """Whether a file that begins so is a Git LFS pointer."""
    return first.startswith(_POINTER)


def is_pointer_file(path: Path) -> bool:
    """Whether a file is a Git LFS pointer; no for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return is_pointer(file.read(len(_POINTER)))
    except OSError:
        return False


def is_web_page(first: bytes) -> bool:
    """Whether a file that begins so is a page of HTML or XML."""
    return first.lstrip()[:1] == b"<"
