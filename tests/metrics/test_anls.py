"""Tests of ANLS: the worked examples, the length that blanks raise, and the edit distance itself."""

from functools import cache
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.anls import ANLS, anls_score, levenshtein

LETTERS = st.text(alphabet="ab ", max_size=7)
LONGER = st.text(alphabet="abA \u00df", max_size=12)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("invoice", "invoice", 1.0),
        ("Invoice", "iNVOICE", 1.0),
        ("invoise", "invoice", 1 - 1 / 7),
        ("ab", "ac", 0.5),
        ("abc", "axy", 0.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a  b", "a b", 1.0),
        (" a b\n", "a b", 1.0),
        ("ca ", "cb ", 1 - 1 / 3),  # the blank that is no edit still lengthens the text
        ("\u00df", "x", 0.5),  # upper-cased, as the length is taken, it is two letters
    ],
)
def test_one_reference(prediction: str, target: str, expected: float) -> None:
    assert anls_score(prediction, [target]) == pytest.approx(expected, abs=1e-15)


def test_the_nearest_reference_counts() -> None:
    assert anls_score("invoice", ["bill", "invoise"]) == pytest.approx(1 - 1 / 7)


def test_strict_threshold() -> None:
    assert anls_score("ab", ["ac"], strict_threshold=True) == 0.0
    assert anls_score("abc", ["abd"], strict_threshold=True) == pytest.approx(2 / 3)


def test_strip_takes_the_blanks_from_the_length_as_well() -> None:
    assert anls_score("ca ", ["cb "], whitespace="strip") == 0.5
    assert anls_score("a  b", ["a b"], whitespace="strip") == 0.75
    assert anls_score(" ", [""], whitespace="strip") == 1.0


@given(a=LETTERS, b=LETTERS)
def test_the_distance_is_the_recursive_definitions(a: str, b: str) -> None:
    @cache
    def distance(i: int, j: int) -> int:
        if not (i and j):
            return i + j
        replaced = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    assert levenshtein(a, b) == distance(len(a), len(b))


@given(
    prediction=LONGER, references=st.lists(LONGER, min_size=1, max_size=3), strict=st.booleans(), strip=st.booleans()
)
def test_no_score_is_changed_by_leaving_out_what_is_too_far(
    prediction: str, references: list[str], strict: bool, strip: bool
) -> None:
    """`anls_score` against the definition, with the edits of every pair counted."""

    def distance(text: str, target: str) -> float:
        shown = (text.lower().strip(), target.lower().strip())
        if strip:
            return levenshtein(*shown) / (max(map(len, shown)) or 1)
        return levenshtein(*(" ".join(t.split()) for t in shown)) / (max(len(text.upper()), len(target.upper())) or 1)

    score = 1 - min(distance(prediction, reference) for reference in references)
    expected = score if score > 0.5 or (score == 0.5 and not strict) else 0.0
    whitespace: Literal["strip", "collapse"] = "strip" if strip else "collapse"
    assert anls_score(prediction, references, strict_threshold=strict, whitespace=whitespace) == expected


def test_options() -> None:
    assert ANLS().name == "anls"
    assert ANLS(strict_threshold=True, whitespace="strip").name == "anls[strict_threshold,whitespace=strip]"
    with pytest.raises(ConfigError, match="strict_threshold is 'yes'; it must be true or false"):
        ANLS(strict_threshold="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be one of collapse, strip"):
        anls_score("a", ["a"], whitespace="keep")  # type: ignore[arg-type]
    with pytest.raises(VlmLitError, match="at least one reference"):
        anls_score("a", [])
