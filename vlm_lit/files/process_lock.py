"""Lock on a file that one process holds alone, on one machine or several, and that ends with it whatever it dies of."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_HELD_HERE: Final[set[str]] = set()


class ProcessLock:
    """An exclusive lock on a file, by POSIX record locks: NFS and Lustre carry them between machines.

    Unlike `FileLock`'s, no child holds it, so that a data worker which outlives its parent keeps nobody out. The kernel
    would let the same process lock twice; this does not.

    Args:
        path: the file; made where it is not there, and never deleted: a deleted one could be locked twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unsupported = False
        """Whether the file system has no locks: then it is taken for ours."""
        self._descriptor: int | None = None

    def acquire(self, note: str = "") -> bool:
        """Take the lock and write `note` into the file; whether it is ours now. It never waits."""
        key = os.path.realpath(self.path)
        if key in _HELD_HERE:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                if isinstance(error, BlockingIOError | PermissionError):  # POSIX allows either for a lock that is held
                    return False
                raise
            self.unsupported = True
        os.ftruncate(descriptor, 0)
        os.write(descriptor, note.encode())
        self._descriptor = descriptor
        _HELD_HERE.add(key)
        return True

    def release(self) -> None:
        """Let it go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _HELD_HERE.discard(os.path.realpath(self.path))
