"""Lists of texts that stand in a text as Python spells them: `['red', 'dark red']`."""

from __future__ import annotations

import ast
import re
from typing import Final, TypeGuard

_BEGINNING: Final = re.compile(r"\s*\[\s*['\"\]]")
"""A bracket alone may begin an interval, `[0, 1)`, or a list of numbers, which are answers too."""

_LONGEST: Final = 100_000
"""Letters. Python's own parser reads these texts, and a hostile one could cost it the process' memory."""


def begins_as_list(value: object) -> TypeGuard[str]:
    """Whether a value is a text that begins as a list of texts: by a bracket and a quote, or as the empty list."""
    return isinstance(value, str) and _BEGINNING.match(value) is not None


def written_list(value: object) -> list[str] | None:
    """The list of texts that a text writes; None where it writes none."""
    if not begins_as_list(value) or len(value) > _LONGEST:
        return None
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None
