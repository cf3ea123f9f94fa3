"""Refusals of a disk, in the words of whoever has to mend them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Final

_FULL: Final = {
    errno.ENOSPC: "the disk is full. Free some space, or write elsewhere",
    errno.EDQUOT: "the quota on its disk is used up. Free some space, or write elsewhere",
    errno.EFBIG: "files may not become that large here. See `ulimit -f`, or write elsewhere",
    errno.EROFS: "its disk is read-only. Write elsewhere",
}
"""What only a writer is told."""
_OTHER: Final = {
    errno.EACCES: "it may not be opened. Change its permissions, or use another folder",
    errno.EPERM: "it may not be changed. Change its permissions, or use another folder",
    errno.EIO: "its disk fails. Use another one",
    errno.ESTALE: "its network disk was lost. Mount it again, or use another folder",
}
_IN_WORDS: Final = re.compile(r"\(os error (\d+)\)")
"""How libraries that are written in Rust, safetensors for one, put it."""


def error_number(error: BaseException) -> int | None:
    """The number of what the system refused; None where it was no disk that did."""
    if isinstance(error, OSError):
        return error.errno
    said = _IN_WORDS.search(str(error))
    return int(said[1]) if said else None


def disk_refusal(error: BaseException) -> str | None:
    """What a disk refused, in a sentence, if that is what an error arose from; None if not."""
    for one in _chain(error):
        number = error_number(one)
        named = getattr(one, "filename", None)
        path = None if named is None or isinstance(named, int) else os.fsdecode(named)
        if number in _FULL:
            return f"{path or 'A file'} cannot be written: {_FULL[number]}. What was there before is whole."
        if number in _OTHER and path is not None:
            return f"{path}: {_OTHER[number]}."
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it arose from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
