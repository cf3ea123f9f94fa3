"""Questions about a chart with their answers, in ChartQA's manner: read off, or reasoned.

A read-off question counts as `machine`, one that needs reasoning as `human`: in ChartQA those are the ones written by a
model and by people. Numbers are computed as decimals, so that an answer is what a person would work out on paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from random import Random
from typing import Final

from chart_tables import Table

_TELLING: Final = Decimal("0.06")
"""Share of the largest value by which two values must differ for a question to rest on it: less is hard to see."""


@dataclass(frozen=True)
class Question:
    """A question, its answer, and whether a human or a machine would have asked it."""

    text: str
    answer: str
    asked_by: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The rows of a table that a picture shows, in their order; `labelled` if the values stand on it as numbers."""

    table: Table
    rows: tuple[str, ...]
    labelled: bool

    def values(self, series: int) -> list[Decimal]:
        """The values of one series, in the rows' order."""
        found = self.table.rows
        return [found[row][series] for row in self.rows]

    def quantity(self, series: int) -> str:
        """What a question calls the values of one series."""
        return self.table.quantity.format(series=self.table.series[series])


def shown(value: Decimal) -> str:
    """A number as an answer has it: at most two places, no trailing zeros."""
    rounded = value.quantize(Decimal("0.01"), ROUND_HALF_UP)
    return f"{rounded.normalize():f}"


def table_of(chart: Chart) -> dict[str, object]:
    """The chart as an object: its title, its unit, and the values of its rows, by series where there are several."""
    table = chart.table
    rows = {
        title_of(row): {name: _number(value) for name, value in zip(table.series, table.rows[row], strict=True)}
        for row in chart.rows
    }
    values = {row: found if len(table.series) > 1 else found[table.series[0]] for row, found in rows.items()}
    return {"title": table.title, "unit": table.unit, "values": values}


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def title_of(row: str) -> str:
    """A row as it stands on the picture, and in an answer."""
    return row[0].upper() + row[1:]


def ask(chart: Chart, random: Random, each: int) -> list[Question]:
    """At most `each` questions to read off and as many to reason about, no two alike."""
    series = random.randrange(len(chart.table.series))
    made = _machine(chart, series, random) + _human(chart, series, random)
    random.shuffle(made)
    found = []
    for asked_by in ("machine", "human"):
        found += [question for question in dict.fromkeys(made) if question.asked_by == asked_by][:each]
    return found


def _of(chart: Chart, row: str) -> str:
    """`of Mars`, `in 1990`, `for lake Erie`."""
    word = chart.table.row
    if word == "year":
        return f"in {row}"
    return f"for {row} carbon atoms" if word.startswith("number") else f"of {row}"


def _machine(chart: Chart, series: int, random: Random) -> list[Question]:
    values, what, row = chart.values(series), chart.quantity(series), chart.table.row
    ordered = sorted(zip(values, chart.rows, strict=True))
    made = []
    for name in random.sample(chart.rows, 2):
        value = values[chart.rows.index(name)]
        made.append(Question(f"What is the {what} {_of(chart, name)}?", shown(value), "machine"))
    if _apart(ordered[-1][0], ordered[-2][0], ordered[-1][0]):
        made.append(Question(f"Which {row} has the greatest {what}?", title_of(ordered[-1][1]), "machine"))
    if _apart(ordered[1][0], ordered[0][0], ordered[-1][0]):
        made.append(Question(f"Which {row} has the smallest {what}?", title_of(ordered[0][1]), "machine"))
    return made


def _human(chart: Chart, series: int, random: Random) -> list[Question]:
    made = [*_yes_or_no(chart, series, random), *_counts(chart, series, random), *_ranks(chart, series)]
    if chart.labelled:
        made += _sums(chart, series, random)
    return [Question(text, answer, "human") for text, answer in made]


def _apart(larger: Decimal, smaller: Decimal, largest: Decimal) -> bool:
    return larger - smaller >= _TELLING * largest


def _yes_or_no(chart: Chart, series: int, random: Random) -> list[tuple[str, str]]:
    one, other = random.sample(chart.rows, 2)
    values = dict(zip(chart.rows, chart.values(series), strict=True))
    a, b = values[one], values[other]
    if not _apart(max(a, b), min(a, b), max(values.values())):
        return []
    what = chart.quantity(series)
    text = f"Is the {what} {_of(chart, one)} greater than the {what} {_of(chart, other)}?"
    return [(text, "Yes" if a > b else "No")]


def _counts(chart: Chart, series: int, random: Random) -> list[tuple[str, str]]:
    ordered = sorted(chart.values(series))
    gaps = [(low, high) for low, high in pairwise(ordered) if _apart(high, low, ordered[-1])]
    if not gaps:
        return []
    low, high = random.choice(gaps)
    bound = _round_number_between(low, high)
    count = sum(value > bound for value in ordered)
    kind = {"year": "years", "number of carbon atoms": "points"}.get(chart.table.row, "")
    thing = kind or {"pie": "slices"}.get(chart.table.form, "bars")
    where = f" of the {chart.table.series[series]}" if len(chart.table.series) > 1 else ""
    return [(f"How many {thing}{where} are above {shown(bound)}?", str(count))]


def _round_number_between(low: Decimal, high: Decimal) -> Decimal:
    """The number with the fewest digits near the middle."""
    middle = (low + high) / 2
    for digits in range(middle.adjusted(), -3, -1):
        rounded = middle.quantize(Decimal(1).scaleb(digits), ROUND_HALF_UP)
        if low < rounded < high:
            return Decimal(rounded)
    return middle


def _ranks(chart: Chart, series: int) -> list[tuple[str, str]]:
    ordered = sorted(zip(chart.values(series), chart.rows, strict=True), reverse=True)
    (first, _), (second, name), (third, _) = ordered[:3]
    if not (_apart(first, second, first) and _apart(second, third, first)):
        return []
    return [(f"Which {chart.table.row} has the second greatest {chart.quantity(series)}?", title_of(name))]


def _sums(chart: Chart, series: int, random: Random) -> list[tuple[str, str]]:
    values, what = chart.values(series), chart.quantity(series)
    one, other = random.sample(chart.rows, 2)
    a, b = (values[chart.rows.index(name)] for name in (one, other))
    pair = f"the {what} {_of(chart, one)} and {_of(chart, other)}"
    made = [("What is the difference between the highest and the lowest value?", shown(_spread(chart)))]
    if chart.table.form == "line":
        first, last = chart.rows[0], chart.rows[-1]
        made.append((f"By how much did the {what} change from {first} to {last}?", shown(abs(values[-1] - values[0]))))
    else:
        made.append((f"What is the sum of {pair}?", shown(a + b)))
    if b and Decimal("0.2") <= a / b <= 20:
        made.append((f"What is the ratio of the {what} {_of(chart, one)} to that {_of(chart, other)}?", shown(a / b)))
    return made + _totals(chart, random)


def _spread(chart: Chart) -> Decimal:
    every = [value for series in range(len(chart.table.series)) for value in chart.values(series)]
    return max(every) - min(every)


def _totals(chart: Chart, random: Random) -> list[tuple[str, str]]:
    """The sum over the series of one row, where series are parts of a whole."""
    if not all(name.endswith("medals") for name in chart.table.series):
        return []
    row = random.choice(chart.rows)
    return [(f"How many medals did {row} win in total?", shown(Decimal(sum(chart.table.rows[row]))))]


def rows_to_draw(table: Table, random: Random) -> tuple[str, ...]:
    """Some of the rows in some order; years stay a stretch, and the parts of a whole stay together."""
    names: Sequence[str] = list(table.rows)
    if table.form == "line":
        length = random.randint(min(5, len(names)), len(names))
        start = random.randint(0, len(names) - length)
        return tuple(names[start : start + length])
    if table.form == "pie":
        turned = random.randrange(len(names))
        return (*names[turned:], *names[:turned])
    most = 5 if table.form == "groups" else 8
    chosen = random.sample(names, random.randint(3, min(most, len(names))))
    if random.random() < 0.5:
        chosen.sort(key=lambda name: table.rows[name], reverse=random.random() < 0.7)
    return tuple(chosen)
