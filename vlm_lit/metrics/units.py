"""Units of measurement behind a number: what each measures, and how one is converted into another.

A unit made of known ones that is not in the table (`kg/m2`) is a kind of its own: it equals itself and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

_SIZES: Final = {
    "length": {
        "nm": 1e-9, "\u03bcm": 1e-6, "mm": 1e-3, "cm": 1e-2, "dm": 0.1, "m": 1.0, "meter": 1.0, "meters": 1.0,
        "metre": 1.0, "metres": 1.0, "km": 1e3, "kilometer": 1e3, "kilometers": 1e3, "kilometre": 1e3,
        "kilometres": 1e3, "inch": 0.0254, "inches": 0.0254, "ft": 0.3048, "foot": 0.3048, "feet": 0.3048,
        "mi": 1609.344, "mile": 1609.344, "miles": 1609.344,
    },
    "area": {"mm2": 1e-6, "cm2": 1e-4, "m2": 1.0, "ha": 1e4, "km2": 1e6},
    "volume": {"ml": 1e-6, "cm3": 1e-6, "l": 1e-3, "m3": 1.0, "km3": 1e9},
    "mass": {"\u03bcg": 1e-9, "mg": 1e-6, "g": 1e-3, "kg": 1.0, "t": 1e3},
    "density": {"kg/m3": 1.0, "g/cm3": 1e3, "g/ml": 1e3, "kg/l": 1e3},
    "time": {
        "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "min": 60.0, "minute": 60.0,
        "minutes": 60.0, "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    },
    "speed": {"m/s": 1.0, "km/s": 1e3, "km/h": 1 / 3.6, "kmh": 1 / 3.6, "mph": 0.44704},
    "pressure": {"pa": 1.0, "hpa": 1e2, "kpa": 1e3, "mpa": 1e6, "mbar": 1e2, "bar": 1e5},
    "temperature": {"kelvin": 1.0, "\u00b0c": 1.0, "celsius": 1.0, "\u00b0f": 5 / 9, "fahrenheit": 5 / 9},
    "share": {"%": 1.0, "percent": 1.0},
}  # fmt: skip
"""Of each thing that is measured its units, by their names in lower case, and how much one of them is."""

_ZEROS: Final = {
    "\u00b0c": 273.15, "celsius": 273.15, "\u00b0f": 459.67 * 5 / 9, "fahrenheit": 459.67 * 5 / 9,
}  # fmt: skip
"""Where a scale's 0 lies, for those that do not begin at nothing."""

_KINDS: Final = {unit: (kind, size) for kind, sizes in _SIZES.items() for unit, size in sizes.items()}
_BEHIND: Final = re.compile(r"\s?(%|\u00b0\s?[CFcf](?![A-Za-z])|[A-Za-z\u03bc]+[23]?(?:/[A-Za-z]+[23]?)?)(?!\w)")


def unit_behind(text: str, end: int) -> str:
    """The unit that stands behind a number, in lower case; empty where there is none that is known.

    Args:
        text: as `numerals` makes it plain: `km\u00b2` is `km2` there.
        end: where the number ends.
    """
    behind = _BEHIND.match(text, end)
    if behind is None or behind[1] == "M":  # a million, or a size of clothes: metres are `m`
        return ""
    unit = behind[1].lower().replace(" ", "")
    if unit in _KINDS:
        return unit
    first, made, below = unit.partition("/")
    if made and first.rstrip("23") in _KINDS:
        return unit if below.rstrip("23") in _KINDS else ""
    return unit if not made and first[-1:] in "23" and first[:-1] in _KINDS else first if first in _KINDS else ""


def converted(value: float, unit: str, wanted: str) -> float | None:
    """A value in another unit; as it is where either has none, None where the two measure different things."""
    if not unit or not wanted or unit == wanted:
        return value
    (kind, size), (other, one) = _KINDS.get(unit, (unit, 1.0)), _KINDS.get(wanted, (wanted, 1.0))
    if kind != other:
        return None
    shift = _ZEROS.get(unit, 0.0) - _ZEROS.get(wanted, 0.0)
    return value * (size / one) + shift / one
