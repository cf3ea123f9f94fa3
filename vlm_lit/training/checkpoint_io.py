"""Durable checkpoint files: a kill at any moment of the writing leaves a whole file.

Lightning stages in $TMPDIR and moves: across file systems a kill or a full disk destroys the previous good file, and
a refused permission passes silently. Here the bytes are written beside the target, flushed to the disk, and renamed.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import STAGED, fill_whole, writer_of


class DurableCheckpointIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads it without running code from it."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object | None = None,
    ) -> None:
        """Write `checkpoint` to `path`; a file of that name stays until the new one is on the disk."""

        def fill(staging: Path) -> None:
            with staging.open("wb") as file:  # given a path, torch would write that path's name into the file
                torch.save(checkpoint, file)

        fill_whole(Path(path), fill)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted, whatever the caller says."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def checked(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, every byte of which has been checked against its checksum; its tensors stay on disk.

    Raises:
        ConfigError: the file is damaged, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        int(content["global_step"])
    except Exception as error:  # a damaged file makes its readers fail in any way they can
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(f"{path} is no whole checkpoint ({type(error).__name__}: {first_line}).") from error
    return content


def checked_step(path: Path) -> int:
    """The optimizer steps done in a checkpoint, read as `checked`.

    Raises:
        ConfigError: as `checked`.
    """
    return int(checked(path)["global_step"])


def sweep_orphans(folder: Path) -> None:
    """Delete the staging files of writers that died."""
    for path in folder.glob(STAGED):
        writer = writer_of(path)
        if writer is not None and not _alive(writer):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
