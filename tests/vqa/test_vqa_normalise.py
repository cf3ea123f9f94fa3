"""Tests of the VQA normaliser: every rule, slips included, on a case that only this rule decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.vqa.normalize import ARTICLES, CONTRACTIONS, m4c_normalise, vqa_normalise

SENTENCES = st.text(alphabet="aTthe 1,.'?-/\u00e9", max_size=40)

PUNCTUATION_CASES = [
    ("red/blue", "red blue"),
    ("red/blue / green", "redblue green"),  # one mark beside a blank deletes all of its kind
    ("1,000 red/blue", "1000 redblue"),  # a comma between digits deletes every mark
    ("2,3-4", "234"),
    ("2-3", "2 3"),
    ("red,blue", "red blue"),
    ("1,000-2", "10002"),
    ("red-blue, green", "red blue green"),  # the comma has a blank, the hyphen has none
    ("x;-y-z", "x y z"),  # the semicolon's blank does not count when the hyphen is decided
    ("?red", "red"),
    ("red, blue-green/x", "red blue green x"),
]

PERIOD_CASES = [
    ("5.", "5"),
    ("u.s.a.", "usa"),
    ("dr.pepper", "drpepper"),
    ("1.5", "1.5"),
    (".5", ".5"),
    ("no.5", "no.5"),
    ("<=1.", "1"),  # the look-behind of the official pattern is a slip and never bites
    ("x.,5", "x 5"),  # the comma was a blank by the time the periods went
    (". 5", "5"),
    ("x.?5 ?", "x.5"),  # here the mark was deleted, and the period meets a digit
]

WORD_CASES = [
    ("Yes", "yes"),
    ("  two   dogs ", "2 dogs"),
    ("none", "0"),
    ("Zero", "0"),
    ("ten", "10"),
    ("eleven", "eleven"),
    ("no", "no"),
    ("a", ""),
    ("An apple", "apple"),
    ("a+b", "b"),
    ("The the cat", "cat"),
    ("theatre", "theatre"),
    ("", ""),
]

CONTRACTION_CASES = [
    ("dont", "don't"),
    ("DONT", "don't"),
    ("twas", "'twas"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("hed've", "he'd've"),
    ("he'dve", "he'd've"),
    ("yall'd've", "y'all'd've"),
    ("ow's'at", "'ow's'at"),
    ("somebody'd", "somebodyd"),
    ("let's", "let's"),
    ("im", "im"),
    ("Im", "im"),
    ("ive", "ive"),
    ("its", "its"),
    ("lets", "lets"),
    ("shes", "shes"),
    ("ill", "ill"),
]


@pytest.mark.parametrize(("given_text", "expected"), PUNCTUATION_CASES)
def test_punctuation(given_text: str, expected: str) -> None:
    assert vqa_normalise(given_text) == expected


@pytest.mark.parametrize(("given_text", "expected"), PERIOD_CASES)
def test_periods(given_text: str, expected: str) -> None:
    assert vqa_normalise(given_text) == expected


@pytest.mark.parametrize(("given_text", "expected"), WORD_CASES)
def test_words(given_text: str, expected: str) -> None:
    assert vqa_normalise(given_text) == expected


@pytest.mark.parametrize(("given_text", "expected"), CONTRACTION_CASES)
def test_contractions(given_text: str, expected: str) -> None:
    assert vqa_normalise(given_text) == expected


@pytest.mark.parametrize("mark", list(';/[]"{}()=+\\_-><@`,?!'))
def test_every_mark_of_the_punctuation_rule_separates_words(mark: str) -> None:
    assert vqa_normalise(f"x{mark}y") == "x y"
    assert vqa_normalise(f"x{mark} y") == "x y"
    assert vqa_normalise(f"x{mark}y {mark}") == "xy"


@pytest.mark.parametrize("mark", list("':%$#&*~^|\u2019\u201c\u2013\u2014\u2026"))
def test_other_marks_stay(mark: str) -> None:
    assert vqa_normalise(f"x{mark}y {mark}") == f"x{mark}y {mark}"


def test_only_the_first_32_periods_go() -> None:
    assert vqa_normalise("x." * 34) == "x" * 32 + "x.x."


def test_periods_before_digits_do_not_count_among_the_32() -> None:
    assert vqa_normalise(".5" * 10 + "x." * 33) == ".5" * 10 + "x" * 33 + "."


def test_the_contraction_table_has_116_entries_that_can_match() -> None:
    assert len(CONTRACTIONS) == 116
    assert all(key == key.lower() and len(key.split()) == 1 for key in CONTRACTIONS)


@given(SENTENCES)
def test_the_result_is_lower_case_words_with_single_blanks_and_no_articles(text: str) -> None:
    words = vqa_normalise(text)
    assert words == " ".join(words.lower().split())
    assert not ARTICLES & set(words.split())


@given(SENTENCES.filter(lambda text: "." not in text and "," not in text))
def test_case_never_matters(text: str) -> None:
    assert vqa_normalise(text.upper()) == vqa_normalise(text.lower())


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Red,Blue", "redblue"),
        ("1,000-2", "1000 2"),
        ("men's", "men 's"),
        ("what?", "what"),
        ("whats", "what's"),
        ("what's", "what 's"),  # contractions that end so can't come back
        ("a\tdog\n", "dog"),
        ("2,3-4", "23 4"),
        ("u.s.a.", "usa"),
    ],
)
def test_the_step_of_textvqa_comes_before_the_rules_of_vqa(given_text: str, expected: str) -> None:
    assert m4c_normalise(given_text) == expected
