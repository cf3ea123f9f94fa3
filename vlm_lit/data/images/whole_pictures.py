"""Cheap signs that an image file is whole, and the check of an image that goes by them.

A file that was cut keeps its header, so the header says nothing of it. Its end does:

    JPEG   ends with the end-of-image marker FF D9, zeros behind it left out
    PNG    ends with the chunk IEND
    GIF    ends with the trailer 3B
    WebP   the length in its RIFF header is that of the file
    BMP    the length in its header is that of the file

Such a file is taken for whole, without decoding a pixel. Any other is decoded once: TIFF, whose strips lie anywhere; a
JPEG with a film or a second picture behind it; a file that was cut. What the decoder says then counts, so that nothing
is refused here which could be trained on. Damage in the middle of a file that keeps its end is found by decoding alone,
and not even so in a JPEG: its decoder takes zeros, as a broken download leaves them, for grey.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO, Final, Literal, TypeAlias, cast

from vlm_lit.data.images.images import check_image, load_image
from vlm_lit.schema import ImageRef

Depth = Literal["header", "full"]
"""How an image is looked at: its header and its end, or all of its pixels."""

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels as they are stored, before any rotation that EXIF data asks for."""

_HEAD: Final = 16
_TAIL: Final = 1024
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


def examine(ref: ImageRef, depth: Depth) -> Size:
    """Judge an image ahead of its use, and say how large it is.

    Args:
        ref: the image.
        depth: `header` looks at its header and its end, `full` decodes it.

    Raises:
        ImageProblem: everything `check_image` refuses, and what is cut or damaged.
    """
    size = check_image(ref)
    if depth == "full" or not looks_whole(ref):
        load_image(ref)
    return size


def looks_whole(ref: ImageRef) -> bool:
    """Whether an encoded image ends as its format says; false where its format has no cheap sign of that."""
    if ref.pixels is not None:
        return True
    with ref.path.open("rb") if ref.path is not None else BytesIO(ref.data or b"") as opened:
        file = cast(BinaryIO, opened)
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(_HEAD)
        file.seek(max(0, size - _TAIL))
        return _ends_well(head, file.read(_TAIL), size)


def _ends_well(head: bytes, tail: bytes, size: int) -> bool:
    if head.startswith(b"\xff\xd8"):
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if head.startswith(b"\x89PNG"):
        return tail.endswith(_PNG_END)
    if head.startswith(b"GIF8"):
        return tail.endswith(b";")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        stated = struct.unpack("<I", head[4:8])[0] + 8
        return bool(size in (stated, stated + 1))  # chunks are padded to even lengths
    if head.startswith(b"BM"):
        return bool(struct.unpack("<I", head[2:6])[0] == size)
    return False
