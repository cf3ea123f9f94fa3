"""Resolution of a record's image path to a file, and refusal of paths that may not be read.

A data set is somebody else's text: its paths may name any file of this machine, or a server. Only names below one
folder are read. A link in that folder is its owner's choice, wherever it leads: picture folders lie on several disks.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:|file:", re.IGNORECASE)
_FILE_URL: Final = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/[^/]))", re.IGNORECASE)  # of this machine
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


class ImageProblem(ValueError):  # noqa: N818 - a finding about an image; `RecordError` is what users see
    """An image that cannot be used. `problem` and `remedy` are in the user's words, `code` is one stable word."""

    def __init__(self, problem: str, *, remedy: str, code: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem, self.remedy, self.code = problem, remedy, code


def resolve_image_path(text: str, root: Path | None) -> Path:
    """Find the file that a record's path names, if it names one inside `root`; backslashes are taken for slashes.

    An address `file:///...` is the path that it holds.

    Raises:
        ImageProblem: with a `path.*` code. Whether the file exists is `check_image`'s question.
    """
    text = _without_scheme(text)
    _check_path_text(text)
    if root is None:
        remedy = "Set image_root to the folder that holds the images."
        raise ImageProblem(f"nothing says where {text!r} starts from", remedy=remedy, code="path.no_root")
    try:
        text.encode()
        text = text.replace("\\", "/")
        base = resolved_folder(root)
        path = _followed(base / text)
        if not path.is_relative_to(base):
            path = _by_link(path, base, text)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; letters no file system can encode
        problem = f"{text[:80]!r} cannot be a path ({error})"
        raise ImageProblem(problem, remedy="Correct the path.", code="path.unusable") from None
    if not path.is_relative_to(base):
        remedy = "Set image_root to a folder that holds every image, and write paths relative to it."
        if text.startswith("/"):
            remedy = "Set image_root: / if paths from the root of the disk are meant, or write them relative to it."
        raise ImageProblem(f"{text!r} leads outside {base}", remedy=remedy, code="path.outside_root")
    return path


def _by_link(path: Path, base: Path, text: str) -> Path:
    """The name of a file that a link below `base` leads to, which is no `..`'s doing; else `path` as it is."""
    named = Path(os.path.normpath(base / text))
    return named if named.is_relative_to(base) and named.resolve() == path.resolve() else path


def resolved_folder(folder: Path) -> Path:
    """`folder.resolve()`, asked of the disk once."""
    return _resolved(folder.absolute())  # a relative name would outlive a change of the working folder


@lru_cache(maxsize=4096)
def _resolved(folder: Path) -> Path:
    return folder.resolve()


def _followed(path: Path) -> Path:
    """`path.resolve()`, which asks the disk for every folder on the way; images share their folders."""
    if path.name in ("", ".."):
        return path.resolve()
    near = resolved_folder(path.parent) / path.name
    return near.resolve() if near.is_symlink() else near


def _without_scheme(text: str) -> str:
    """The path that a `file:` address of this machine holds; any other text as it is."""
    scheme = _FILE_URL.match(text)
    if scheme is None:
        return text
    path = unquote(text[scheme.end() :])
    return path[1:] if _DRIVE.match(path, 1) else path


def _check_path_text(text: str) -> None:
    if not text.strip():
        remedy = "Write the image's path, or leave the key out where there is no image."
        raise ImageProblem("the path is empty", remedy=remedy, code="path.empty")
    if "\0" in text:
        raise ImageProblem("a zero character in the path", remedy="Remove it.", code="path.zero_character")
    if _DRIVE.match(text):
        remedy = "Write it relative to image_root, without the drive letter."
        raise ImageProblem(f"{text!r} is a Windows path", remedy=remedy, code="path.drive")
    if _URL.match(text):
        remedy = "Images are read from disk only: save it as a file and write that file's path."
        raise ImageProblem(f"{text[:80]!r} is a URL", remedy=remedy, code="path.url")
