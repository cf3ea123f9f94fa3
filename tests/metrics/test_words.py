"""Tests of words in any script: runs of letters, or single letters where a script has no blanks."""

from __future__ import annotations

import pytest

from vlm_lit.metrics.words import unicode_tokens, unicode_words


@pytest.mark.parametrize(("text", "words"), [
    ("The cat, sat.", ["the", "cat", "sat"]),
    ("under_score 3.5", ["under", "score", "3", "5"]),
    ("\uff11\uff12 ﬁn", ["12", "fin"]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    ("图A1中", ["图", "a1", "中"]),
    ("ก็ดี", ["ก็", "ดี"]),
    ("ｶﾞﾗｽ", ["ガ", "ラ", "ス"]),
    ("한국어 문장", ["한국어", "문장"]),
    ("!?", []),
])  # fmt: skip
def test_unicode_words(text: str, words: list[str]) -> None:
    assert unicode_words(text) == words


@pytest.mark.parametrize(("text", "tokens"), [
    ("The cat, sat.", ["The", "cat,", "sat."]),
    ("图A1中 ok", ["图", "A1", "中", "ok"]),
    ("", []),
])  # fmt: skip
def test_unicode_tokens(text: str, tokens: list[str]) -> None:
    assert unicode_tokens(text) == tokens
