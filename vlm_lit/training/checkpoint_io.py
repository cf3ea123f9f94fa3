"""Durable checkpoint files: a kill at any moment of the writing leaves a whole file.

Lightning stages in $TMPDIR and moves: across file systems a kill or a full disk destroys the previous good file, and
a refused permission passes silently. Here the bytes are written beside the target, flushed to the disk, and renamed.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import CheckpointIO

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import fill_whole
from vlm_lit.training.checkpoint_content import lacking
from vlm_lit.training.checkpoint_manifest import is_sealed, seal


class DurableCheckpointIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads it without running code from it."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object | None = None,
    ) -> None:
        """Write `checkpoint` to `path`; a file of that name stays until the new one is on the disk.

        Raises:
            OSError: it cannot be written; what was there is there still.
        """

        def fill(staging: Path) -> None:
            with staging.open("wb") as file:  # given a path, torch would write that path's name into the file
                _save(checkpoint, file)
            seal(staging, checkpoint)

        fill_whole(Path(path), fill)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted, whatever the caller says.

        Raises:
            ConfigError: the file is damaged, or holds more than tensors and plain values.
        """
        checked(Path(path))
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class _Disk:
    """A file that remembers what the disk refused: torch says no more of it than that it wrote too little."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.refused = file, list[OSError]()

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.refused.append(error)
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    disk = _Disk(file)
    try:
        torch.save(checkpoint, disk)  # type: ignore[arg-type] # it writes and is flushed, no more
    except Exception:
        if disk.refused:
            raise disk.refused[0] from None
        raise


def checked(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, every byte of which has been checked; its tensors stay on disk.

    Raises:
        ConfigError: the file is damaged, or holds more than tensors and plain values.
    """
    return _opened(path)[0]


def _opened(path: Path) -> tuple[dict[str, Any], bool]:
    """A checkpoint's contents, and whether it has our manifest; without one its archive's own checksums decide."""
    try:
        if not path.is_file():  # to open a pipe would be to wait for its writer
            raise FileNotFoundError("it is no file")
        sealed = is_sealed(path)
        if not sealed:
            _check_archive(path)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        int(content["global_step"])
    except Exception as error:  # a damaged file makes its readers fail in any way they can
        raise ConfigError(f"{path} is no whole checkpoint ({_reason(error)}).") from error
    return content, sealed


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # torch's own words advise to read it all the same
        return "it holds more than tensors and plain values"
    first_line = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first_line}"


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        # torch compresses nothing, and what a stranger compressed may fill the memory.
        packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise zipfile.BadZipFile(f"{packed[0]} is compressed")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"bad checksum of {damaged}")


def sound(path: Path, *, resumes: bool) -> dict[str, Any]:
    """A checkpoint's contents, read as `checked`, in which nothing is missing.

    Args:
        path: its file.
        resumes: whether training is to go on from it, for which weights alone are not enough.

    Raises:
        ConfigError: as `checked`, or something is missing; says what.
    """
    content, sealed = _opened(path)
    missing = lacking(content, resumes=resumes, sealed=sealed)
    if missing is not None:
        raise ConfigError(f"{path} is no checkpoint to {'go on from' if resumes else 'read'}: it lacks {missing}.")
    return content


def checked_step(path: Path) -> int:
    """The optimizer steps done in a checkpoint, read as `checked`.

    Raises:
        ConfigError: as `checked`.
    """
    return int(checked(path)["global_step"])
