"""How do a verb's files get into the folder it was given? Each whole, an earlier one replaced, nothing else touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vlm_lit.schema import ConfigError


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
        staging = folder / f".{name}.tmp-{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            staging.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            os.replace(staging, folder / name)
        except OSError as error:
            raise ConfigError(f"{option} {folder} cannot be written: {error.strerror}.") from error
        finally:
            if folder.is_dir():
                staging.unlink(missing_ok=True)
