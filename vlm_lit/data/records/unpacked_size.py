"""The size that Parquet, Arrow and WebDataset files unpack to, looked at before anything of them is unpacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from vlm_lit.data.records.arrow_batches import check_batches
from vlm_lit.data.records.parquet_pages import check_pages
from vlm_lit.data.records.tar_members import check_members
from vlm_lit.files.user_cache import Cached

_CHECKS: Final[Mapping[str, Callable[[Path], None]]] = {
    ".parquet": check_pages,
    ".arrow": check_batches,
    ".tar": check_members,
}
_LARGE: Final = 64 * 2**20
"""From this size on it is kept that a file has been looked at; its headers take a second and more."""


def check_unpacked(files: Sequence[Path]) -> None:
    """Look at each file of these kinds, those of a saved data set's folder included.

    Raises:
        RecordError: one unpacks to more than it may, or holds what is not read.
        OSError, TarError, struct.error, pyarrow.ArrowException: one is damaged.
    """
    for path in files:
        check = _CHECKS.get(path.suffix.lower())
        if check is None:
            continue
        found = path.stat()
        if found.st_size < _LARGE:
            check(path)
            continue
        cached = Cached("unpacked", {"file": str(path.resolve()), "size": found.st_size, "time": found.st_mtime_ns})
        if cached.read() is None:
            check(path)
            cached.write("looked at")
