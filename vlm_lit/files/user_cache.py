"""Cache of what checks have found, in a folder of the user's: one JSON file for each thing that was looked at.

The folder is $VLM_LIT_CACHE, else $XDG_CACHE_HOME/vlm_lit, else ~/.cache/vlm_lit. Deleting it costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vlm_lit.files.file_lock import FileLock
from vlm_lit.files.whole import write_whole

_FOLDER: Final = "checks"
_KEPT: Final = 90 * 24 * 3600  # seconds that a file is kept unused


def cache_folder() -> Path:
    """Where the package keeps what can be made again."""
    named = os.environ.get("VLM_LIT_CACHE")
    if named:
        return Path(named).expanduser()
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "vlm_lit"


class Cached:
    """One file of the cache.

    Args:
        kind: what it holds, in one word.
        identity: all that its contents follow from.
    """

    def __init__(self, kind: str, identity: Mapping[str, object]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self.path = cache_folder() / _FOLDER / f"{kind}-{digest[:32]}.json"

    def read(self) -> object:
        """What it holds; None where it is not there, or is no JSON."""
        try:
            value: object = json.loads(self.path.read_bytes())
            os.utime(self.path)
        except (OSError, ValueError, RecursionError):
            return None
        return value

    def write(self, value: object) -> None:
        """Replace what it holds; said, and nothing more, where it cannot be written."""
        try:
            write_whole(self.path, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        except OSError as error:
            from lightning.pytorch.utilities import rank_zero_info

            rank_zero_info(
                f"What the check found is not kept for the next start: {self.path.parent} cannot be written "
                f"({error.strerror}). The environment variable VLM_LIT_CACHE names another folder."
            )
            return
        self._remove_old()

    def _remove_old(self) -> None:
        oldest = time.time() - _KEPT
        for file in self.path.parent.iterdir():
            with suppress(OSError):
                if file.stat().st_mtime < oldest:
                    file.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process is: the ranks of one machine make a thing once, and read it then."""
        lock = FileLock(self.path.with_suffix(".lock"))
        with suppress(OSError):  # a file system without locks, or one that cannot be written
            lock.acquire(wait=True)
        try:
            yield
        finally:
            lock.release()
