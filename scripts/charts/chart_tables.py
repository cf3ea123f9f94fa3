"""Public tables of true figures for the drawn charts, each with its source.

Figures are as their sources print them. Rows are written `name value [value ...]`, separated by commas.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

Form = Literal["bars", "groups", "line", "pie"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to draw: `quantity` is what a question calls a value, `row` what it calls a row.

    `series` names the columns of a grouped chart; the quantity then holds `{series}`.
    """

    form: Form
    title: str
    quantity: str
    unit: str
    row: str
    source: str
    text: str
    series: tuple[str, ...] = ("",)

    @property
    def rows(self) -> dict[str, tuple[Decimal, ...]]:
        """Values by row, one a series."""
        found = {}
        for line in self.text.split(","):
            words = line.split()
            name, values = words[: -len(self.series)], words[-len(self.series) :]
            found[" ".join(name)] = tuple(Decimal(value) for value in values)
        return found


_NASA: Final = "NASA, Planetary Fact Sheet"
_CRC: Final = "CRC Handbook of Chemistry and Physics"
_MEDALS: Final = ("gold medals", "silver medals", "bronze medals")


def _medals(games: str, text: str) -> Table:
    return Table(
        form="groups", title=f"Medals at the {games}", quantity="number of {series}", unit="medals", row="team",
        source="International Olympic Committee, as at the closing ceremony", series=_MEDALS, text=text,
    )  # fmt: skip


BARS: Final = (
    Table(
        form="bars", title="The planets' diameters at the equator", quantity="diameter", unit="km", row="planet",
        source=_NASA,
        text="Mercury 4879, Venus 12104, Earth 12756, Mars 6792, Jupiter 142984, Saturn 120536, Uranus 51118, "
        "Neptune 49528",
    ),
    Table(
        form="bars", title="Speed needed to escape from a planet", quantity="escape velocity", unit="km/s",
        row="planet", source=_NASA,
        text="Mercury 4.3, Venus 10.4, Earth 11.2, Mars 5.0, Jupiter 59.5, Saturn 35.5, Uranus 21.3, Neptune 23.5",
    ),
    Table(
        form="bars", title="Mean distance of the planets from the Sun", quantity="distance from the Sun",
        unit="million km", row="planet", source=_NASA,
        text="Mercury 57.9, Venus 108.2, Earth 149.6, Mars 228.0, Jupiter 778.5, Saturn 1432.0, Uranus 2867.0, "
        "Neptune 4515.0",
    ),
    Table(
        form="bars", title="Mean radius of large moons", quantity="radius", unit="km", row="moon",
        source="NASA, Planetary Satellite Physical Parameters",
        text="Ganymede 2634, Titan 2575, Callisto 2410, Io 1822, the Moon 1737, Europa 1561, Triton 1353",
    ),
    Table(
        form="bars", title="Density of metals", quantity="density", unit="g/cm³", row="metal", source=_CRC,
        text="magnesium 1.74, aluminium 2.70, titanium 4.51, iron 7.87, copper 8.96, silver 10.5, lead 11.3, gold 19.3",
    ),
    Table(
        form="bars", title="Melting points of metals", quantity="melting point", unit="°C", row="metal", source=_CRC,
        text="tin 232, lead 327, zinc 420, magnesium 650, aluminium 660, silver 962, gold 1064, copper 1085, "
        "nickel 1455, iron 1538",
    ),
    Table(
        form="bars", title="Height of tall buildings", quantity="height", unit="m", row="building",
        source="Council on Tall Buildings and Urban Habitat",
        text="Burj Khalifa 828, Shanghai Tower 632, Makkah Clock Tower 601, One World Trade Center 541, "
        "Taipei 101 508, Petronas Tower 1 452, Empire State Building 381",
    ),
    Table(
        form="bars", title="The highest mountain of each continent", quantity="height", unit="m", row="mountain",
        source="National mapping agencies",
        text="Everest 8849, Aconcagua 6961, Denali 6190, Kilimanjaro 5895, Elbrus 5642, Vinson 4892, Kosciuszko 2228",
    ),
    Table(
        form="bars", title="Surface of the Great Lakes", quantity="surface area", unit="km²", row="lake",
        source="US Environmental Protection Agency",
        text="Superior 82100, Michigan 57800, Huron 59600, Erie 25700, Ontario 18960",
    ),
    Table(
        form="bars", title="Men's football World Cups won, 1930 to 2022", quantity="number of titles", unit="titles",
        row="team", source="FIFA",
        text="Brazil 5, Germany 4, Italy 4, Argentina 3, France 2, Uruguay 2, England 1, Spain 1",
    ),
    Table(
        form="bars", title="Members of the Electoral College, 2024", quantity="number of electors", unit="electors",
        row="state", source="US National Archives",
        text="California 54, Texas 40, Florida 30, New York 28, Illinois 19, Ohio 17, Georgia 16, Michigan 15, "
        "New Jersey 14",
    ),
    Table(
        form="bars", title="Energy that frees the first electron", quantity="first ionisation energy", unit="eV",
        row="element", source="NIST Atomic Spectra Database",
        text="hydrogen 13.60, helium 24.59, lithium 5.39, beryllium 9.32, boron 8.30, carbon 11.26, nitrogen 14.53, "
        "oxygen 13.62, fluorine 17.42, neon 21.56",
    ),
)  # fmt: skip

GROUPS: Final = (
    _medals(
        "2024 Summer Olympics",
        "United States 40 44 42, China 40 27 24, Japan 20 12 13, Australia 18 19 16, France 16 26 22, "
        "Netherlands 15 7 12, Great Britain 14 22 29, South Korea 13 9 10, Italy 12 13 15, Germany 12 13 8",
    ),
    _medals(
        "2020 Summer Olympics",
        "United States 39 41 33, China 38 32 18, Japan 27 14 17, Great Britain 22 21 22, Australia 17 7 22, "
        "Netherlands 10 12 14, France 10 12 11, Germany 10 11 16, Italy 10 10 20",
    ),
    _medals(
        "2018 Winter Olympics",
        "Norway 14 14 11, Germany 14 10 7, Canada 11 8 10, United States 9 8 6, Netherlands 8 6 6, Sweden 7 6 1, "
        "South Korea 5 8 4",
    ),
    _medals(
        "2016 Summer Olympics",
        "United States 46 37 38, Great Britain 27 23 17, China 26 18 26, Germany 17 10 15, Japan 12 8 21, "
        "France 10 18 14, Italy 8 12 8, Australia 8 11 10",
    ),
    Table(
        form="groups", title="Depth of the Great Lakes", quantity="{series}", unit="m", row="lake",
        source="US Environmental Protection Agency", series=("average depth", "maximum depth"),
        text="Superior 147 406, Michigan 85 282, Huron 59 229, Erie 19 64, Ontario 86 244",
    ),
)  # fmt: skip

LINES: Final = (
    Table(
        form="line", title="Population of the United States", quantity="population", unit="million people", row="year",
        source="US Census Bureau",
        text="1900 76.2, 1910 92.2, 1920 106.0, 1930 123.2, 1940 132.2, 1950 151.3, 1960 179.3, 1970 203.2, "
        "1980 226.5, 1990 248.7, 2000 281.4, 2010 308.7, 2020 331.4",
    ),
    Table(
        form="line", title="Carbon dioxide in the air at Mauna Loa", quantity="concentration of carbon dioxide",
        unit="parts per million", row="year", source="NOAA Global Monitoring Laboratory",
        text="1960 317, 1965 320, 1970 326, 1975 331, 1980 339, 1985 346, 1990 354, 1995 361, 2000 370, 2005 380, "
        "2010 390, 2015 401, 2020 414",
    ),
    Table(
        form="line", title="Members of the European Union and the communities before it", quantity="number of members",
        unit="countries", row="year", source="European Union",
        text="1958 6, 1973 9, 1981 10, 1986 12, 1995 15, 2004 25, 2007 27, 2013 28, 2020 27",
    ),
    Table(
        form="line", title="Goals at men's football World Cups", quantity="number of goals", unit="goals", row="year",
        source="FIFA",
        text="1982 146, 1986 132, 1990 115, 1994 141, 1998 171, 2002 161, 2006 147, 2010 145, 2014 171, 2018 169, "
        "2022 172",
    ),
    Table(
        form="line", title="Boiling points of the unbranched alkanes", quantity="boiling point", unit="°C",
        row="number of carbon atoms", source=_CRC,
        text="5 36.1, 6 68.7, 7 98.4, 8 125.6, 9 150.8, 10 174.1",
    ),
)  # fmt: skip

PIES: Final = (
    Table(
        form="pie", title="What the Earth's crust is made of, by mass", quantity="share", unit="%", row="element",
        source="Mason and Moore, Principles of Geochemistry",
        text="oxygen 46.6, silicon 27.7, aluminium 8.1, iron 5.0, calcium 3.6, sodium 2.8, potassium 2.6, "
        "magnesium 2.1, other 1.5",
    ),
    Table(
        form="pie", title="What the human body is made of, by mass", quantity="share", unit="%", row="element",
        source="Standard anatomical tables",
        text="oxygen 65.0, carbon 18.0, hydrogen 10.0, nitrogen 3.0, calcium 1.5, phosphorus 1.0, other 1.5",
    ),
    Table(
        form="pie", title="How the oceans share the surface of the sea", quantity="share", unit="%", row="ocean",
        source="NOAA, ETOPO1 Global Relief Model",
        text="Pacific 46.6, Atlantic 23.5, Indian 19.5, Southern 6.1, Arctic 4.3",
    ),
    Table(
        form="pie", title="Where the Earth's fresh water is", quantity="share", unit="%", row="place",
        source="US Geological Survey",
        text="glaciers and ice 68.7, ground water 30.1, surface and other 1.2",
    ),
)  # fmt: skip
