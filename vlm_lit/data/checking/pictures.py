"""Image files that records name, each looked at once, and not again while its size and time stay."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vlm_lit.data.checking.in_processes import FEW, mapped
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.whole_pictures import Depth, Size, examine
from vlm_lit.files.user_cache import Cached
from vlm_lit.schema import ImageRef

_DEPTHS: Final[tuple[Depth, ...]] = ("header", "full")

Stamp = tuple[int, int]
"""A file's size in bytes, and when it was changed in nanoseconds."""

Problem = tuple[str, str, str]
"""What is wrong with an image, the remedy, and the reason's code."""


def looked_at_pictures(
    paths: Sequence[str], depth: Depth, identity: Mapping[str, object]
) -> tuple[dict[str, Problem], dict[str, Size]]:
    """The image files that cannot be used, each with its problem, remedy and code, and the sizes of the others.

    Args:
        paths: the files, each once.
        depth: how they are looked at.
        identity: what names the data set that they belong to; what was found of their files is kept under it.
    """
    remembers = len(paths) >= FEW or depth == "full"
    kept = Cached("picture_sizes", identity)
    good = _good(kept.read() if remembers else None, depth)
    stamps = {path: _stamp(path) for path in paths}
    new = [path for path, stamp in stamps.items() if stamp is None or path not in good or good[path][0] != stamp]
    looked = {
        path: seen
        for found in mapped(_Examination(new, depth), len(new), what="images")
        for path, seen in found.items()
    }
    bad = {path: seen for path, seen in looked.items() if len(seen) == 3}
    sizes = {path: good[path][1] for path in paths if path in good and path not in looked}
    sizes |= {path: seen for path, seen in looked.items() if len(seen) == 2}
    if remembers and len(new) > len(bad):
        held = {path: [*stamp, depth, *sizes[path]] for path, stamp in stamps.items() if stamp and path in sizes}
        kept.write(held)
    return bad, sizes


class _Examination:
    """Looks at some of the files."""

    def __init__(self, paths: Sequence[str], depth: Depth) -> None:
        self.paths, self.depth = paths, depth

    def __call__(self, rows: range) -> dict[str, Problem | Size]:
        found: dict[str, Problem | Size] = {}
        for path in (self.paths[i] for i in rows):
            try:
                found[path] = examine(ImageRef(path=Path(path)), self.depth)
            except ImageProblem as problem:
                found[path] = (problem.problem, problem.remedy, problem.code)
        return found


def _good(kept: Any, depth: Depth) -> dict[str, tuple[Stamp, Size]]:  # noqa: ANN401 - whatever the file holds
    """The files that were found good, at least as deeply as asked for."""
    if not isinstance(kept, dict):
        return {}
    enough = _DEPTHS[_DEPTHS.index(depth) :]
    return {
        path: ((size, changed), (width, height))
        for path, (size, changed, looked, width, height) in kept.items()
        if looked in enough
    }


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a hundred thousand paths
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
