"""One writer a run directory: a second process that would write into it is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from lightning.pytorch.utilities import rank_zero_warn

from vlm_lit.errors import ConfigError
from vlm_lit.files.process_lock import ProcessLock

FILE: Final = ".lock"
_RANKS: Final = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
)  # fmt: skip
"""What launchers tell a process about its place. Those of one run write one directory, and its first one holds it."""


def refuse_second_writer(run: Path) -> None:
    """Refuse a run directory that another process writes into; nothing is made where there is none.

    Raises:
        ConfigError: there is such a process; names it.
    """
    if (run / FILE).is_file() and _is_first():
        with sole_writer(run, "look"):
            pass


@contextmanager
def sole_writer(run: Path, verb: str) -> Iterator[None]:
    """This process as the only one that writes into a run directory.

    Args:
        run: the run directory; made where it is not there.
        verb: what this process does there.

    Raises:
        ConfigError: another process writes there; names it.
    """
    if not _is_first():
        yield
        return
    lock = ProcessLock(run / FILE)
    since = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    if not lock.acquire(f"{verb}, process {os.getpid()} on {socket.gethostname()}, since {since}"):
        raise ConfigError(
            f"{run} is being written by another process ({_who(lock.path)}). Wait for it or stop it, or name another "
            "folder by --run_dir; test, validate and predict --from a run have folders of their own."
        )
    if lock.unsupported:
        rank_zero_warn(f"The file system of {run} has no locks: nothing keeps a second process from writing there.")
    try:
        yield
    finally:
        lock.release()


def _is_first() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def _who(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()[:200] or "which has just begun"
