"""Marking of the words in which an answer differs from the most similar earlier one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

Segments = list[tuple[str, bool]]

ALIKE: Final = 0.5
"""Share of words in common from which on marking the others helps; below it nearly everything would be marked."""

FEW_WORDS: Final = 5
"""Answers this short are compared at a glance."""

_MANY_WORDS: Final = 2000  # comparing takes the square of this


def marked(answer: str, earlier: Sequence[str]) -> tuple[Segments, int | None]:
    """Split an answer into what the most similar earlier one also says, and what it does not.

    Args:
        answer: to be split; the parts joined give it back.
        earlier: the answers it stands beside.

    Returns:
        (text, whether it is new) in order, and the position of the earlier answer it was compared with, None where
        none was similar enough.
    """
    words = _words(answer)
    if not FEW_WORDS < len(words) <= _MANY_WORDS:
        return [(answer, False)], None
    matchers = [_matcher(text, words) for text in earlier]
    likeness = [matcher.ratio() for matcher in matchers]
    if not likeness or max(likeness) < ALIKE:
        return [(answer, False)], None
    nearest = likeness.index(max(likeness))
    segments = [
        ("".join(words[start:end]), kind != "equal")
        for kind, _, _, start, end in matchers[nearest].get_opcodes()
        if end > start
    ]
    return segments, nearest


def _matcher(text: str, words: Sequence[str]) -> SequenceMatcher[str]:
    earlier = [word.strip() for word in _words(text)[:_MANY_WORDS]]
    return SequenceMatcher(None, earlier, [word.strip() for word in words], autojunk=False)


def _words(text: str) -> list[str]:
    """Words, each with the blanks after it."""
    return re.findall(r"\S+\s*|\s+", text)
