"""Tests of the units behind numbers, their sizes against those of scipy."""

from __future__ import annotations

import pytest
from scipy import constants

from vlm_lit.metrics.numerals import quantities
from vlm_lit.metrics.units import converted


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("5 km\N{SUPERSCRIPT TWO}", "km2"), ("5km2", "km2"), ("8.96 g/cm\N{SUPERSCRIPT THREE}", "g/cm3"),
        ("20 \N{DEGREE SIGN}C", "\N{DEGREE SIGN}c"), ("20\N{DEGREE CELSIUS}", "\N{DEGREE SIGN}c"),
        ("5 \N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m"), ("60 km/h", "km/h"), ("5 kg/m2", "kg/m2"), ("5 M", ""),
        ("5 m.", "m"), ("5 km/year", ""), ("5 and/or 6", ""), ("3 in a row", ""), ("57%", "%"), ("five miles", "miles"),
    ],
)  # fmt: skip
def test_the_unit_behind_a_number(text: str, unit: str) -> None:
    assert quantities(text)[0].unit == unit


@pytest.mark.parametrize(
    ("unit", "other", "size"),
    [
        ("inch", "m", constants.inch), ("feet", "m", constants.foot), ("mile", "km", constants.mile / constants.kilo),
        ("mph", "km/h", constants.mph / constants.kmh), ("ha", "m2", constants.hectare), ("l", "m3", constants.liter),
        ("bar", "pa", constants.bar), ("min", "s", constants.minute), ("hours", "min", constants.hour / 60),
        ("t", "kg", constants.metric_ton), ("nm", "m", constants.nano), ("g/cm3", "kg/m3", 1000), ("km2", "m2", 1e6),
    ],
)  # fmt: skip
def test_sizes_are_those_of_scipy(unit: str, other: str, size: float) -> None:
    assert converted(3.0, unit, other) == pytest.approx(3.0 * size)
    assert converted(3.0, other, unit) == pytest.approx(3.0 / size)


@pytest.mark.parametrize("degrees", [-40.0, 0.0, 36.6])
def test_temperatures_are_those_of_scipy(degrees: float) -> None:
    celsius = "\N{DEGREE SIGN}c"
    fahrenheit = float(constants.convert_temperature(degrees, "C", "F"))
    kelvin = float(constants.convert_temperature(degrees, "C", "K"))
    assert converted(degrees, celsius, "\N{DEGREE SIGN}f") == pytest.approx(fahrenheit)
    assert converted(degrees, celsius, "kelvin") == pytest.approx(kelvin)


def test_what_is_made_of_units_is_a_kind_of_its_own() -> None:
    assert converted(5.0, "kg/m2", "kg/m2") == 5.0
    assert converted(5.0, "kg/m2", "kg") is None
    assert converted(5.0, "km2", "km") is None
