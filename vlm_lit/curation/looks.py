"""Pictures looked at: each file is decoded once, which gives its digest, its size, its hashes or what is wrong."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import check_image, load_image
from vlm_lit.data.workers import leave_interrupts, usable_cores
from vlm_lit.errors import ConfigError
from vlm_lit.schema import ImageRef

if TYPE_CHECKING:
    from PIL import Image

_FEW: Final = 256
"""Pictures that are looked at sooner than a process has started."""

_TOGETHER: Final = 16
_SIDE: Final = 32
"""Pixels a side that the hash is made of. Made so small for all channels at once, a sixth of the time is enough."""


@dataclass(frozen=True, kw_only=True)
class PictureLook:
    """What a picture file holds.

    `digest` is the SHA-256 of its bytes, `hashes` the perceptual hash (pHash) of its red, green and blue channel, 64
    bits each. `problem` says why it cannot be used; digest and hashes are then empty.
    """

    digest: str = ""
    width: int = 0
    height: int = 0
    hashes: tuple[int, ...] = ()
    problem: tuple[str, str, str] | None = None
    """Problem, remedy and code."""


def check_library(near_distance: int | None) -> None:
    """Refuse to look for near duplicates without the library that they are found by.

    Raises:
        ConfigError: it is not installed.
    """
    if near_distance is not None:
        try:
            import imagehash  # noqa: F401
        except ImportError:
            raise ConfigError(
                "Near duplicates are found by the package imagehash: pip install 'vlm_lit[curate]'. Or look for exact "
                "ones only: --near_distance none."
            ) from None


def looks(files: Sequence[Path], *, hashed: bool, workers: int | None, seen: Callable[[], object]) -> list[PictureLook]:
    """Look at each file, in several processes where they are many.

    Args:
        files: which.
        hashed: whether perceptual hashes are wanted.
        workers: how many processes; None for one a core.
        seen: called after each file.

    Raises:
        ConfigError: one of the processes died.
    """
    found: list[PictureLook] = []
    for look in _each(files, hashed, workers if workers is not None else usable_cores()):
        found.append(look)
        seen()
    return found


def _each(files: Sequence[Path], hashed: bool, workers: int) -> Iterator[PictureLook]:
    look = partial(look_at, hashed=hashed)
    if workers < 2 or len(files) < _FEW:
        yield from map(look, files)
        return
    # A new process each: one that is forked from here would have the locks of this one's threads.
    new = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=new, initializer=leave_interrupts) as pool:
            yield from pool.map(look, files, chunksize=_TOGETHER)
    except BrokenProcessPool:
        raise ConfigError(
            "A process that reads pictures was killed, by the system for want of memory or by a picture that crashes "
            "the decoder. Say --workers 1 for less of the one; look into the other."
        ) from None


def look_at(file: Path, *, hashed: bool) -> PictureLook:
    """Decode a file, wholly, as training will."""
    try:
        check_image(ImageRef(path=file))  # a pipe must not be read, nor what is far too large
        data = file.read_bytes()
        image = load_image(ImageRef(data=data))
    except ImageProblem as found:
        return PictureLook(problem=(found.problem, found.remedy, found.code))
    except OSError as error:
        problem = f"not readable ({error.strerror})"
        return PictureLook(problem=(problem, "Copy it again, or allow it to be read.", "image.unreadable"))
    return PictureLook(
        digest=hashlib.sha256(data).hexdigest(),
        width=image.width,
        height=image.height,
        hashes=perceptual_hashes(image) if hashed else (),
    )


def perceptual_hashes(image: Image.Image) -> tuple[int, ...]:
    """The pHash of each colour channel: of grey pictures alone, a red lamp and a green one would be the same."""
    import imagehash
    from PIL import Image

    small = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    return tuple(int(str(imagehash.phash(channel)), 16) for channel in small.split())
