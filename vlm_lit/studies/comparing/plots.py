"""Plots of a comparison as SVG: means with intervals, and differences per group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlm_lit.plot_style import INK, STYLE, as_svg, plain, short, svg_address
from vlm_lit.studies.comparing.comparison import Comparison, Group, SystemPair, SystemStanding

MOST_GROUPS: Final = 30
"""Groups a forest plot shows, the largest ones; the table has all."""

_INCHES_A_ROW: Final = 0.3


def means_plot(standings: Sequence[SystemStanding], colours: Sequence[str]) -> str:
    """A dot and an interval for each system, as a `data:` address."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 0.75 + 0.42 * len(standings)), layout="constrained")
        axes = figure.subplots()
        for row, (standing, colour) in enumerate(zip(standings, colours, strict=True)):
            if standing.bounds:
                low, high = standing.bounds
                axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(100 * standing.mean, row, "o", color=colour, markersize=8, clip_on=False)  # whole at 0 and 100
        _rows(axes, [standing.system.name for standing in standings])
        axes.set_xlim(0, 100)
        axes.set_xlabel("mean score, % (95 % interval)")
        return svg_address(as_svg(figure))


def forest_plot(pairs: Sequence[SystemPair], comparison: Comparison) -> str:
    """Differences overall and in each group, a panel for each of some pairs, as a `data:` address."""
    groups = shown_groups(comparison)
    positions = [comparison.pairs.index(pair) for pair in pairs]
    names = ["overall", *(f"{group.name}: {group.value}" for group in groups)]
    with rc_context(STYLE):
        height = 1.2 + _INCHES_A_ROW * len(names)
        figure = Figure(figsize=(11, height) if len(pairs) > 1 else (9, height), layout="constrained")
        panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for axes, pair, position in zip(panels, pairs, positions, strict=True):
            _panel(axes, [pair, *(group.pairs[position] for group in groups)])
        _rows(panels[0], [short(name, 34) for name in names])
        return svg_address(as_svg(figure))


def shown_groups(comparison: Comparison) -> list[Group]:
    """The largest groups, in the comparison's order."""
    largest = sorted(comparison.groups, key=lambda group: -group.n)[:MOST_GROUPS]
    return [group for group in comparison.groups if any(group is kept for kept in largest)]


def _panel(axes: Axes, rows: Sequence[SystemPair]) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, pair in enumerate(rows):
        sure = pair.verdict.endswith(" better")
        if pair.interval:
            low, high = pair.interval
            axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=2.4 if row == 0 else 1.4)
        face = INK if sure else "white"
        axes.plot(100 * pair.gap, row, "D" if row == 0 else "o", color=INK, markerfacecolor=face, markersize=6)
    reach = max((abs(edge) for edge in axes.get_xlim()), default=1.0)
    axes.set_xlim(-1.08 * reach, 1.08 * reach)
    a, b = short(rows[0].a, 18), short(rows[0].b, 18)
    left, right = (a, b) if rows[0].less_is_better else (b, a)
    axes.set_xlabel(f"\N{LEFTWARDS ARROW} {left} better    points    {right} better \N{RIGHTWARDS ARROW}")
    plain(axes)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left, the first on top."""
    axes.set_yticks(range(len(names)), [short(name, 40) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    plain(axes)
