"""Normalisation that VQA evaluations apply to answers before they compare them.

The rules are those the official VQA v1/v2 evaluator applies, slips included, because published numbers contain
them. Source of the behaviour: GT-Vision-Lab/VQA, `vqaEval.py`, snapshot a013f004. The rule its web page states
("replace all punctuation by a space") is not what that code does. TextVQA's is facebookresearch/mmf,
`m4c_evaluators.py`, snapshot b0ffc7fb. Both written from a description of the behaviour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

PUNCTUATION: Final = ';/[]"{}()=+\\_-><@`,?!'
"""What the punctuation rule touches. The period has its own rule; apostrophe, colon, `%` and `$` are kept."""

MAX_PERIODS: Final = 32
"""The official code hands `re.UNICODE`, which is 32, to `sub` where the number of replacements belongs."""

NUMBER_WORDS: Final = {"none": "0", "zero": "0"} | {
    word: str(value)
    for value, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
ARTICLES: Final = frozenset({"a", "an", "the"})

# ASCII digits only: the official evaluator runs on Python 2, where `\d` without a flag means [0-9].
_COMMA_IN_NUMBER: Final = re.compile(r"[0-9],[0-9]")
_PERIOD_BEFORE_NO_DIGIT: Final = re.compile(r"\.(?![0-9])")

_APOSTROPHE_LOST: Final = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
    it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't
    somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's
    they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's
    where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_LOST_IN_NT_VE: Final = ("could", "had", "might", "should", "would")
_LOST_IN_D_VE: Final = (
    *("he", "it", "she", "somebody", "someone", "something"),
    *("there", "they", "we", "who", "you"),
)
_IRREGULAR: Final = {
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    "let's": "let's",
    "she's": "she's",
    "somebody'd": "somebodyd",  # reversed in the official table
}


def _contraction_entries() -> Iterator[tuple[str, str]]:
    for word in _APOSTROPHE_LOST.split():
        yield word.replace("'", ""), word
    for word in _LOST_IN_NT_VE:
        yield from ((spelling, f"{word}n't've") for spelling in (f"{word}nt've", f"{word}n'tve"))
    for word in _LOST_IN_D_VE:
        yield from ((spelling, f"{word}'d've") for spelling in (f"{word}d've", f"{word}'dve"))
    yield from _IRREGULAR.items()


CONTRACTIONS: Final = dict(_contraction_entries())
"""The 116 entries that can match. Four more of the official table (`Im` ...) cannot: words are lower-cased first."""


# Answers repeat: judging 200,000 with ten references each took 9 s with this and 31 s without.
@lru_cache(maxsize=1 << 16)
def vqa_normalise(text: str) -> str:
    """Returns `text` as the official VQA evaluation compares it: lower-case words joined by single spaces.

    Punctuation goes first, then periods, then words: numbers up to ten become digits, articles go, lost
    apostrophes return. The result may be empty (`vqa_normalise("a") == ""`). Line breaks and tabs are the
    caller's business. Source: the module's docstring.
    """
    words = (NUMBER_WORDS.get(word, word) for word in without_punctuation(text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def m4c_normalise(text: str) -> str:
    """Returns `text` as TextVQA's evaluation compares it: a step of its own, then `vqa_normalise`.

    Commas and question marks go without leaving a blank (`red,blue` is `redblue`), and `'s` becomes a word.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return vqa_normalise(one_line(text))


def one_line(text: str) -> str:
    """Returns `text` with line feeds and tabs, but not carriage returns, as blanks and none at its ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def without_punctuation(text: str) -> str:
    """Returns `text` with each mark deleted everywhere, or a space everywhere; then without periods before no digit.

    Each decision on a mark looks at `text` as given, so that it doesn't depend on the order of the marks.
    """
    has_number = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        deleted = has_number or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if deleted else " ")
    return _PERIOD_BEFORE_NO_DIGIT.sub("", cleaned, count=MAX_PERIODS)
