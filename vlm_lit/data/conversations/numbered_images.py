"""Images in columns `image_1`, `image_2`, ..., placed where the text says `<image 1>`, `<image 2>`, and so on.

MMMU writes its questions and options so. Images that only its explanations name are not to be shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

_MARKER: Final = re.compile(r"<image ([1-9][0-9]?)>")
_COLUMN: Final = re.compile(r"image_([1-9][0-9]?)")


def numbered_images(record: Record) -> dict[int, object]:
    """The images under `image_1`, ... by number, None where one is empty; none beside an `image` or `images`."""
    if any(record.fields.get(key) is not None for key in ("image", "images")):
        return {}
    found = {int(match[1]): value for key, value in record.fields.items() if (match := _COLUMN.fullmatch(key))}
    return dict(sorted(found.items()))


def split_at_markers(text: str) -> list[str | int]:
    """`text` without its markers, and each marker's number where it stood; empty pieces are left out."""
    pieces = _MARKER.split(text)  # text and number in turn
    found = [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]
    return [piece for piece in found if piece != ""]


def shown_images(record: Record, pieces: Sequence[str | int]) -> list[object]:
    """The images that a text's markers name, in their order; all of the record's where there is no marker.

    Raises:
        RecordError: the record has no image of a marker's number.
    """
    images = numbered_images(record)
    named = [piece for piece in pieces if isinstance(piece, int)]
    for number in named:
        if images.get(number) is None:
            raise RecordError(
                f"its text names <image {number}>, and there is no image_{number}",
                remedy="Give the record that image, or take the words out.",
                file=record.file,
                record=record.name,
                code="conversation.numbered_image",
            )
    return [images[number] for number in named or images if images[number] is not None]
