"""Staging places: what a file or folder is called while it is written, and the clearing of those of writers that died.

A name holds its writer's process id and what its machine is called: a folder may be shared by machines, each of which
has the same numbers.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import zlib
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final
from uuid import uuid4

STAGED: Final = ".*.tmp-*"
"""Pattern of the names that files and folders have while they are written."""

_HOST: Final = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# The marks of machine and writing are missing in names that earlier versions gave, the machine's alone in some.
_NAME: Final = re.compile(r"\.(?P<target>.+)\.(?:tmp|old)-(?P<writer>\d+)(?:-(?P<host>[0-9a-f]{8})?[0-9a-f]{8})?")
_ELSEWHERE: Final = 6 * 3600.0
"""Seconds after which what another machine was writing is taken for abandoned."""
_CLOCKS: Final = 10.0
"""Seconds that a file system's clock and ours may differ by."""


def staging_path(target: Path, kind: str = "tmp") -> Path:
    """A name of this process's own beside `target`: `tmp` for what is to take its place, `old` for what it replaces."""
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{_HOST}{uuid4().hex[:8]}")


def writer_of(path: Path) -> int | None:
    """The process that was writing what is staged as `path`; None where the name is of nothing staged."""
    name = _NAME.fullmatch(path.name)
    return int(name["writer"]) if name else None


def sweep(folder: Path, target: str | None = None) -> None:
    """Delete what writers that died left in a folder; put back what one had moved aside and not yet replaced.

    Args:
        folder: where the targets lie; what is below it is not looked at.
        target: the name of the file or folder that was being written; None for any.
    """
    name = "*" if target is None else escape(target)
    for path in sorted(folder.glob(f".{name}.old-*")):
        found = _NAME.fullmatch(path.name)
        if found and _abandoned(path) and not os.path.lexists(folder / found["target"]):
            with suppress(OSError):  # another process was first
                os.replace(path, folder / found["target"])
    for path in [*folder.glob(f".{name}.tmp-*"), *folder.glob(f".{name}.old-*")]:
        if not _abandoned(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                path.unlink()


def _abandoned(path: Path) -> bool:
    """Whether the writer of what is staged as `path` is no more."""
    name = _NAME.fullmatch(path.name)
    if name is None:
        return False
    try:
        changed: float = max(inside.lstat().st_mtime for inside in (path, *(path.iterdir() if path.is_dir() else ())))
    except OSError:  # it was finished, or swept by another process
        return False
    if name["host"] not in (None, _HOST):
        return time.time() - changed > _ELSEWHERE
    writer = int(name["writer"])
    return not _alive(writer) or _began(writer) > changed + _CLOCKS


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _began(process: int) -> float:
    """When a process was started, in seconds since 1970; 0 where the system does not say.

    A container's processes have the numbers of those that died in it: ours may be the dead writer's.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return time.time() - ago
