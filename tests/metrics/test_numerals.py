"""Tests of the numbers read from answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from vlm_lit.metrics.numerals import Quantity, quantities


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3), ("-2.5", -2.5), ("\N{MINUS SIGN}4", -4), ("1,234,567", 1234567), ("1,5", 1.5), ("1e-3", 0.001),
        ("1/2", 0.5), ("2 1/2", 2.5), ("\N{VULGAR FRACTION ONE HALF}", 0.5), ("2\N{VULGAR FRACTION ONE HALF}", 2.5),
        ("$5", 5), ("3.", 3), ("There are 12 hammers.", 12), ("2.5 million", 2.5e6), ("1 million", 1e6),
        ("twenty-one", 21), ("Twenty One", 21), ("two hundred and five", 205), ("a dozen", 12), ("two dozen", 24),
        ("half a dozen", 6), ("half", 0.5), ("three and a half", 3.5), ("one hundred", 100), ("one", 1),
        ("1.234,5", 1234.5), ("12.000.000", 12e6), ("1.234", 1.234), ("12\u202f000", 12000), ("minus five", -5),
        ("negative 3", -3), ("-$5", -5), ("\N{EN DASH}5", -5), ("10\N{SUPERSCRIPT THREE}", 1000),
        ("2 \N{MULTIPLICATION SIGN} 10^3", 2000), ("3.2M", 3.2e6), ("5k people", 5000), ("1.4bn", 1.4e9),
        ("-\N{VULGAR FRACTION ONE HALF}", -0.5), ("\N{MINUS SIGN}\N{VULGAR FRACTION ONE HALF}", -0.5),
        ("-2\N{VULGAR FRACTION ONE HALF}", -2.5), ("-$\N{VULGAR FRACTION ONE HALF}", -0.5),
        ("It is.\N{VULGAR FRACTION ONE HALF}", 0.5), ("two thirds", 2 / 3), ("Three-quarters of it", 0.75),
        ("one third", 1 / 3), ("one-fifth", 0.2), ("minus three eighths", -0.375), ("twenty-one hundredths", 0.21),
        ("three and a quarter", 3.25), ("one and a third", 4 / 3), ("one second", 1), ("two third graders", 2),
        ("$5 bn", 5e9), ("5 Bn", 5e9), ("10 k people", 10000), ("$10 K", 10000), ("\u20ac 3.2 M", 3.2e6),
        ("-$5 B", -5e9), ("10 K", 10), ("5 M", 5), ("5 B", 5), ("10 k-means clusters", 10),
        ("the red one reads 3", 3), ("none", 0), ("There are no hammers", 0), ("no, 3", 3), ("\uff15", 5),
    ],
)  # fmt: skip
def test_one_number(text: str, expected: float) -> None:
    assert [quantity.value for quantity in quantities(text)] == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row 3, column 4", [3, 4]), ("10-12", [10, 12]), ("1,2,3", [1, 2, 3]), ("five and six", [5, 6]),
        ("3 of four", [3, 4]), ("B3", []), ("LMP-7", []), ("v2x", []), ("a hammer and a saw", []), ("", []),
        ("2/0", []), ("nobody", []), ("10\N{EN DASH}12", [10, 12]), ("12.05.2024", []), ("1.5.2", []), ("2x2", []),
        ("1e999", []), ("nan", []), ("9" * 400, []), ("1/" + "9" * 5000, []), ("hundred " * 300, []),
        ("5\N{SUPERSCRIPT TWO}", [5, 2]), ("two and two thirds", [2, 2 / 3]),
        ("one hundred and two thirds", [100, 2 / 3]),
        ("a third", []), ("the third one and a half", [1.5]), ("10-\N{VULGAR FRACTION ONE HALF}", [10, 0.5]),
    ],
)  # fmt: skip
def test_several_numbers_or_none(text: str, expected: list[float]) -> None:
    assert [quantity.value for quantity in quantities(text)] == expected


@given(st.integers(0, 10**11))
def test_written_numbers_are_those_that_a_library_writes(number: int) -> None:
    assert [quantity.value for quantity in quantities(num2words(number))] == [number]


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "It is {}.", "({})", "about {} of them"]))
def test_whole_numbers_in_digits(number: int, form: str) -> None:
    assert [quantity.value for quantity in quantities(form.format(number))] == [number]


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert all(isinstance(quantity.value, float) for quantity in quantities(text))


def test_units_are_converted_where_both_have_one() -> None:
    (said,), (true,) = quantities("50 mm"), quantities("5cm")
    assert said.in_unit_of(true) == pytest.approx(5)
    assert Quantity(90.0, "s").in_unit_of(Quantity(1.0, "min")) == 1.5
    assert Quantity(3.0).in_unit_of(true) == 3.0
    assert quantities("ninety seconds") == [Quantity(90.0, "seconds")]


def test_what_measures_something_else_is_not_comparable() -> None:
    assert Quantity(5.0, "kg").in_unit_of(Quantity(5.0, "cm")) is None
