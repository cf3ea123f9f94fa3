"""The page of a retention: one HTML file with the verdicts, a plot, and questions that were lost and gained."""

from __future__ import annotations

from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from vlm_lit.plot_style import COLOURS, INK, STYLE, as_svg, plain, short, svg_address
from vlm_lit.studies.comparing.examples import selections
from vlm_lit.studies.comparing.page import Card, card_of
from vlm_lit.studies.page_parts.templates import environment
from vlm_lit.studies.retention.verdicts import BASE, BenchmarkRetention, Retention, table

_TEMPLATE: Final = "retention.html.j2"
_INCHES_A_ROW: Final = 0.4


def as_page(retention: Retention, *, examples: int) -> str:
    """The retention as one HTML page, pictures and plot included.

    Args:
        retention: what to show.
        examples: most questions of each benchmark that are shown as lost, and as gained.
    """
    header, rows = table(retention)
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            retention=retention,
            header=header,
            rows=rows,
            plot=_plot(retention) if any(one.interval for one in retention.benchmarks) else None,
            shown=[(one, _cards(one, examples)) for one in retention.benchmarks],
            level=100 * (1 - 0.05 / max(1, len(retention.benchmarks))),
        )
    )


def _cards(one: BenchmarkRetention, examples: int) -> list[tuple[str, str, list[Card]]]:
    """Lost first: they are what a reader came for."""
    won = [chosen for chosen in selections(one.comparison, 2 * examples) if " ahead of " in chosen.title]
    ordered = sorted(won, key=lambda chosen: not chosen.title.startswith(f"{BASE} "))
    return [
        (
            "Lost" if chosen.title.startswith(f"{BASE} ") else "Gained",
            chosen.rule,
            [card_of(item, one.comparison) for item in chosen.items],
        )
        for chosen in ordered
    ]


def _plot(retention: Retention) -> str:
    """A dot and an interval for each benchmark's change, the allowed loss as a line, as a `data:` address."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 0.9 + _INCHES_A_ROW * len(retention.benchmarks)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.axvline(-100 * retention.max_loss, color=COLOURS[1], linewidth=0.8, linestyle="--")
        for row, one in enumerate(retention.benchmarks):
            if one.interval is not None:
                low, high = one.interval
                axes.plot([100 * low, 100 * high], [row, row], color=COLOURS[0], linewidth=3, solid_capstyle="butt")
            axes.plot(100 * one.change, row, "o", color=COLOURS[0], markersize=7)
        axes.set_yticks(range(len(retention.benchmarks)), [short(one.name, 34) for one in retention.benchmarks])
        axes.set_ylim(len(retention.benchmarks) - 0.5, -0.5)
        plain(axes)
        axes.set_xlabel("tuned minus base, points of the mean score; dashed: the allowed loss")
        return svg_address(as_svg(figure))
