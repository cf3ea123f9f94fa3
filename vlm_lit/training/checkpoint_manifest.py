"""Manifest of a checkpoint file: the step, the keys and the digest of its bytes, kept as its zip archive's comment.

A checkpoint is a zip archive, whose own checksums cover the tensors and not the lists around them. The manifest covers
every byte before it, moves and is copied with the file, and `unzip -z` shows it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm_lit import __version__

_ENTRY: Final = "vlm_lit"
_LENGTH: Final = 2  # bytes at the end of an archive without a comment, which say how long its comment is


def seal(path: Path, content: Mapping[str, Any]) -> None:
    """Append the manifest of a checkpoint to its file, which is a zip archive without a comment."""
    size = path.stat().st_size
    stated = {_ENTRY: __version__, "step": int(content["global_step"]), "bytes": size}
    manifest = json.dumps({**stated, "holds": sorted(map(str, content))}).encode()
    comment = manifest + b"\nsha256 " + _digest(path, size, manifest).encode()
    with path.open("r+b") as file:
        file.seek(size - _LENGTH)
        file.write(len(comment).to_bytes(_LENGTH, "little") + comment)


def is_sealed(path: Path) -> bool:
    """Whether a checkpoint's file is as it was sealed; False where it never was, as by earlier versions.

    Raises:
        zipfile.BadZipFile: it is no archive, or not the one that was sealed.
    """
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    if not comment:
        return False
    manifest, _, digest = comment.rpartition(b"\nsha256 ")
    size = path.stat().st_size - len(comment)
    if digest != _digest(path, size, manifest).encode():
        raise zipfile.BadZipFile("its bytes are not those that its manifest says")
    return True


def _digest(path: Path, size: int, manifest: bytes) -> str:
    """The SHA-256 of the archive as it was before it got its comment, and of its manifest behind it."""
    digest, left = hashlib.sha256(), size - _LENGTH
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    digest.update(bytes(_LENGTH) + manifest)
    return digest.hexdigest()
