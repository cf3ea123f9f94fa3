"""Images written as base64 text: data URIs, and bare base64 whose first bytes are those of an image file."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from vlm_lit.data.images.image_paths import ImageProblem

_ENCODED: Final = re.compile(r"data:image/[\w.+-]+(?:;[\w.-]+=[\w.-]+)*;base64,(.+)", re.IGNORECASE | re.DOTALL)
_ALPHABET: Final = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_SHORTEST: Final = 44
"""Letters. The smallest pictures have more, and few paths as many without a dot or a dash."""

_FIRST_BYTES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def uri_bytes(uri: str) -> bytes:
    """The file that a `data:image/png;base64,...` holds, which is how chat APIs are sent pictures.

    Raises:
        ImageProblem: it is malformed.
    """
    found = _ENCODED.fullmatch(uri)
    remedy = "Write data:image/png;base64, (or another image type) and the file's bytes in base64."
    if found is None:
        raise ImageProblem(f"{uri[:40]!r} is not a base64 image", remedy=remedy, code="image.data_uri")
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except (binascii.Error, ValueError) as error:  # letters beyond ASCII are a ValueError
        raise ImageProblem(f"broken base64 in a data URI ({error})", remedy=remedy, code="image.data_uri") from None


def bare_bytes(text: str) -> bytes | None:
    """The image file that bare base64 holds; None for any other text.

    Raises:
        ImageProblem: it begins as an image file in base64 and is cut short.
    """
    if len(text) < _SHORTEST or not _begins_as_image(text[:64]) or not _ALPHABET.fullmatch(text):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        remedy = "Write the whole file in base64, or its path."
        raise ImageProblem(f"broken base64 ({error})", remedy=remedy, code="image.base64") from None


def _begins_as_image(text: str) -> bool:
    letters = "".join(text.split())
    try:
        first = base64.b64decode(letters[: len(letters) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False
    if first.startswith(b"RIFF"):
        return first[8:12] == b"WEBP"
    if first.startswith(b"BM"):
        return first[6:10] == bytes(4)  # reserved, and a path begins so more easily than by the others
    return first.startswith(_FIRST_BYTES)
