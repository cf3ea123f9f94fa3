"""Pictures of charts: bars, grouped bars, lines and pies, in styles that follow from a seed."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from random import Random
from typing import Final

from chart_questions import Chart, shown, title_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PALETTES: Final = (
    ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"),
    ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f"),
    ("#264653", "#e9c46a", "#2a9d8f", "#e76f51", "#8ab17d", "#f4a261", "#6d597a", "#b56576", "#457b9d"),
    ("#003f5c", "#ffa600", "#bc5090", "#58508d", "#ff6361", "#2f9e8f", "#8c8c8c", "#7a5195", "#ef5675"),
)


def draw(chart: Chart, random: Random) -> bytes:
    """The chart as the bytes of a PNG file: the same for the same random numbers."""
    width, height = random.uniform(6.2, 8.2), random.uniform(4.4, 5.6)
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    palette = list(random.choice(_PALETTES))
    shift = random.randrange(len(palette))
    _DRAWERS[chart.table.form](axes, chart, [*palette[shift:], *palette[:shift]], random)
    title = "\n".join(textwrap.wrap(chart.table.title, int(width * 7)))
    axes.set_title(title, fontsize=random.choice((12, 13, 14)), fontweight=random.choice(("normal", "bold")), pad=14)
    figure.text(0.01, 0.005, f"Source: {chart.table.source}", fontsize=7, color="#666666", va="bottom")
    figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))  # type: ignore[union-attr, call-arg]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _bars(axes: Axes, chart: Chart, colours: Sequence[str], random: Random) -> None:
    count = len(chart.table.series)
    across = count == 1 and random.random() < 0.4
    size = random.uniform(0.55, 0.8) / count
    for series in range(count):
        at = [i + (series - (count - 1) / 2) * size for i in range(len(chart.rows))]
        heights = [float(value) for value in chart.values(series)]
        label = chart.table.series[series] or None
        if across:
            bars = axes.barh(at, heights, size, color=colours[series], label=label)
        else:
            bars = axes.bar(at, heights, size, color=colours[series], label=label)
        if chart.labelled:
            axes.bar_label(bars, [shown(value) for value in chart.values(series)], padding=2, fontsize=9)
    _name_rows(axes, chart, across)
    _finish(axes, chart, "x" if across else "y", random)


def _name_rows(axes: Axes, chart: Chart, across: bool) -> None:
    at, names = range(len(chart.rows)), [title_of(name) for name in chart.rows]
    if across:
        axes.set_yticks(at, names)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        return
    wrapped = ["\n".join(textwrap.wrap(name, 11)) for name in names]
    axes.set_xticks(at, wrapped, rotation=30 if len(names) > 6 and max(map(len, names)) > 9 else 0)
    axes.margins(y=0.12)


def _line(axes: Axes, chart: Chart, colours: Sequence[str], random: Random) -> None:
    at, values = [int(row) for row in chart.rows], [float(value) for value in chart.values(0)]
    axes.plot(at, values, color=colours[0], marker=random.choice("os^D"), linewidth=random.uniform(1.5, 2.5))
    if chart.labelled:
        for x, y, value in zip(at, values, chart.values(0), strict=True):
            axes.annotate(shown(value), (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(at, chart.rows, rotation=45 if len(at) > 8 else 0)
    axes.set_xlabel(chart.table.row.capitalize())
    axes.margins(x=0.06, y=0.15)
    _finish(axes, chart, "y", random)


def _pie(axes: Axes, chart: Chart, colours: Sequence[str], random: Random) -> None:
    values = [float(value) for value in chart.values(0)]
    wedges = axes.pie(
        values, colors=colours[: len(values)], startangle=random.choice((0, 45, 90, 180)), counterclock=False,
        wedgeprops={"edgecolor": "white", "width": random.choice((1.0, 0.55))},
    )[0]  # fmt: skip
    # Small slices have no room for a number of their own, so the legend gives all of them.
    labels = [f"{title_of(name)}: {shown(value)}%" for name, value in zip(chart.rows, chart.values(0), strict=True)]
    axes.legend(wedges, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10)


def _finish(axes: Axes, chart: Chart, values: str, random: Random) -> None:
    """Label the axis of the values, and draw what helps to read it."""
    unit = chart.table.unit
    is_word = len(unit) > 3 and unit.replace(" ", "").isalpha()
    (axes.set_xlabel if values == "x" else axes.set_ylabel)(title_of(unit) if is_word else unit)
    if not chart.labelled or random.random() < 0.5:
        axes.grid(axis="x" if values == "x" else "y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    axes.ticklabel_format(axis="x" if values == "x" else "y", style="plain", useOffset=False)
    if random.random() < 0.7:
        axes.spines[["top", "right"]].set_visible(False)
    if len(chart.table.series) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)


_DRAWERS: Final = {"bars": _bars, "groups": _bars, "line": _line, "pie": _pie}
