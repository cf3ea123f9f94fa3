"""The words of a text in any script, as ROUGE-L and BLEU compare them."""

from __future__ import annotations

import unicodedata
from typing import Final, Literal

Tokenizer = Literal["unicode", "official"]
"""`unicode`: the functions here. `official`: what the published definition does, which knows Latin script alone."""

# First words of the Unicode names of letters whose scripts put no blanks between words.
_WITHOUT_BLANKS: Final = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE")


def unicode_words(text: str) -> list[str]:
    """Words in lower case: runs of letters and digits with their marks, one letter a word in scripts without blanks.

    Compatibility forms are folded (NFKC), so a full-width digit is the digit.
    """
    words: list[str] = []
    for run in _runs(unicodedata.normalize("NFKC", text).lower()):
        words += _parted(run)
    return words


def unicode_tokens(text: str) -> list[str]:
    """What blanks separate, and within it one letter a token in scripts without blanks. Case and marks are kept.

    Where blanks separate all words, these are the words of `str.split`.
    """
    return [token for run in text.split() for token in _parted(run)]


def _runs(text: str) -> list[str]:
    """Runs of letters, digits and their combining marks; joiners within a word belong to it."""
    kept = [c if c.isalnum() or unicodedata.category(c).startswith("M") or c in "\u200c\u200d" else " " for c in text]
    return "".join(kept).split()


def _parted(run: str) -> list[str]:
    """A run with each letter of a script without blanks on its own, its combining marks behind it."""
    parts: list[str] = []
    alone = True  # whether the next character begins a part
    for character in run:
        if parts and unicodedata.category(character).startswith("M"):
            parts[-1] += character
        elif _stands_alone(character):
            parts.append(character)
            alone = True
        elif alone:
            parts.append(character)
            alone = False
        else:
            parts[-1] += character
    return parts


def _stands_alone(character: str) -> bool:
    return character > "\u0e00" and unicodedata.name(character, "").startswith(_WITHOUT_BLANKS)
