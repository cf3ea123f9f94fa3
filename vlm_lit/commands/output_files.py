"""Writing of the files that --output names: each whole, an earlier one replaced, nothing else touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole


def write_files(folder: Path, files: Mapping[str, str | bytes], *, option: str = "--output") -> None:
    """Write each file whole; those of an earlier call are replaced.

    Args:
        folder: made where it is not there.
        files: what they hold, by name; text is written as UTF-8.
        option: what named the folder, for the error.

    Raises:
        ConfigError: the folder or a file cannot be written.
    """
    for name, content in files.items():
        try:
            write_whole(folder / name, content)
        except OSError as error:
            raise ConfigError(f"{option} {folder} cannot be written: {error.strerror}.") from error


def write_output(path: Path, text: str) -> None:
    """Write the one file that --output names, whole.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}. Name another file.") from error
