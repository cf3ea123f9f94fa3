"""Images in columns `image_1`, `image_2`, ..., placed where the text says `<image 1>`, `<image 2>`, and so on.

MMMU writes its questions and options so. Images that only its explanations name are not to be shown.
"""

from __future__ import annotations

import re
from typing import Final

from vlm_lit.data.conversations.refusals import empty
from vlm_lit.schema import Record

_COLUMN: Final = re.compile(r"image_([0-9]{1,3})")


def numbered_columns(record: Record) -> dict[int, str]:
    """The keys `image_0`, `image_1`, ... by number, those that hold something; none beside an `image` or `images`."""
    if not all(empty(record.fields.get(key)) for key in ("image", "images")):
        return {}
    found = [(int(match[1]), key) for key in record.fields if (match := _COLUMN.fullmatch(key))]
    return {number: key for number, key in sorted(found) if not empty(record.fields[key])}
