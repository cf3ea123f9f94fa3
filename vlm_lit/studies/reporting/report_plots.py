"""Plots of a study: learning curves, scores against costs, and two factors as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from vlm_lit.plot_style import COLOURS, FAINT, INK, STYLE, as_png, as_svg, plain, short
from vlm_lit.studies.page_parts.wording import percent
from vlm_lit.studies.reporting.report import Setting, StudyReport
from vlm_lit.studies.run_files.learning_curves import LOSS, Curve, band, smoothed

MOST_SETTINGS: Final = 24
"""Settings that can be told apart by colour and line; of more, the best ones are drawn."""

_LINES: Final = ("-", "--", ":", "-.")
_WIDE, _WIDEST = 5, 200  # largest over smallest cost
_LEAST_POINTS: Final = 2.0  # that an axis of scores spans
_LEGEND_SIZE: Final = 9  # points
_MARKS: Final = ("o", "s", "^", "D")


def report_plots(report: StudyReport) -> dict[str, bytes]:
    """Every figure as PNG and as SVG, by file name. Curves need a logged loss, a map exactly two factors."""
    drawn: dict[str, Callable[[StudyReport], Figure | None]] = {
        "learning_curves": learning_curves_plot,
        "cost": cost_plot,
        "heat_map": heat_map,
    }
    files: dict[str, bytes] = {}
    with rc_context(STYLE):
        for name, draw in drawn.items():
            figure = draw(report)
            if figure is not None:
                files |= {f"{name}.svg": as_svg(figure), f"{name}.png": as_png(figure)}
    return files


def shown_settings(report: StudyReport) -> list[Setting]:
    """The settings that plots tell apart, in the study's order."""
    scored = sorted(report.ranked, key=lambda setting: setting.score.mean if setting.score else 0.0)
    best = (scored if report.less_is_better else scored[::-1])[:MOST_SETTINGS]
    return [setting for setting in report.ranked if any(setting is kept for kept in best)]


def learning_curves_plot(report: StudyReport) -> Figure | None:
    """A panel for each of training loss, validation loss and validation metric, as far as they were logged."""
    panels = [(tag, label) for tag, label in _logged(report) if _curves(shown_settings(report), tag)]
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels) + 1, 4.6), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (tag, label) in zip(every, panels, strict=True):
        _curve_panel(axes, report, tag, label)
    _legend(figure, every)
    return figure


def _logged(report: StudyReport) -> list[tuple[str, str]]:
    window = f", mean of {report.window} logged points" if report.window > 1 else ""
    return [
        (LOSS, f"training loss per supervised token, nats{window}"),
        ("val/loss", "validation loss per supervised token, nats"),
        (f"val/{report.metric}", f"validation {report.metric}, %"),
    ]


def _curves(settings: Sequence[Setting], tag: str) -> dict[str, list[Curve]]:
    found = {s.name: [run.curves[tag] for run in s.finished if tag in run.curves] for s in settings}
    return {name: curves for name, curves in found.items() if curves}


def _curve_panel(axes: Axes, report: StudyReport, tag: str, label: str) -> None:
    settings = shown_settings(report)
    curves = _curves(settings, tag)
    scale = 100 if tag == f"val/{report.metric}" else 1
    for position, setting in enumerate(settings):
        if setting.name not in curves:
            continue
        window = report.window if tag == LOSS else 1
        seeds = band([smoothed(curve, window) for curve in curves[setting.name]])
        colour, line = COLOURS[position % len(COLOURS)], _LINES[position // len(COLOURS) % len(_LINES)]
        values = [scale * value for value in seeds.mean]
        mark = "o" if len(seeds.steps) < 2 else None
        axes.plot(seeds.steps, values, linestyle=line, color=colour, marker=mark, label=setting.name)
        low, high = ([scale * value for value in side] for side in (seeds.low, seeds.high))
        axes.fill_between(seeds.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("optimizer steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(label, fontsize=10, loc="left")
    plain(axes, grid="both")


def cost_plot(report: StudyReport) -> Figure | None:
    """Score against seconds of fit and against trained parameters, a mark for each setting."""
    costs: list[tuple[str, Mapping[str, float]]] = [
        ("time of fit, seconds", {s.name: s.fit_seconds for s in report.ranked if s.fit_seconds is not None}),
        ("trained parameters", {s.name: s.adapter.parameters for s in report.ranked if s.adapter is not None}),
    ]
    panels = [(label, found) for label, found in costs if found]
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels) + 1, 4.6), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (label, found) in zip(every, panels, strict=True):
        _cost_panel(axes, report, found)
        axes.set_xlabel(label)
    every[0].set_ylabel(f"{report.metric}, % (mean and 95 % interval)")
    _legend(figure, every)
    return figure


def _cost_panel(axes: Axes, report: StudyReport, costs: Mapping[str, float]) -> None:
    for position, setting in enumerate(shown_settings(report)):
        if setting.name not in costs or setting.score is None:
            continue
        colour, mark = COLOURS[position % len(COLOURS)], _MARKS[position // len(COLOURS) % len(_MARKS)]
        x, y = costs[setting.name], 100 * setting.score.mean
        if setting.score.interval:
            low, high = setting.score.interval
            axes.plot([x, x], [100 * max(low, 0.0), 100 * min(high, 1.0)], color=colour, linewidth=1.6, alpha=0.7)
        axes.plot(x, y, mark, color=colour, markersize=8, label=setting.name)
    low, high = axes.get_ylim()
    if high - low < _LEAST_POINTS:  # nothing apart is not to look as if it were
        axes.set_ylim((low + high - _LEAST_POINTS) / 2, (low + high + _LEAST_POINTS) / 2)
    _scale(axes, costs.values())
    plain(axes, grid="both")


def _scale(axes: Axes, costs: Collection[float]) -> None:
    """Logarithmic where costs differ by more than a few times, with plain numbers along it."""
    axes.margins(x=0.15)
    if 0 < _WIDE * min(costs) < max(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(costs) < _WIDEST * min(costs) else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _legend(figure: Figure, every: Iterable[Axes]) -> None:
    """One for all panels, each setting once."""
    named: dict[str, Artist] = {}
    for axes in every:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    labels = [short(name, 40) for name in named]
    figure.legend(
        named.values(),
        labels,
        loc="outside lower center",
        ncols=_columns(figure, labels),
        frameon=False,
        fontsize=_LEGEND_SIZE,
    )


def _columns(figure: Figure, labels: Sequence[str]) -> int:
    """As many columns, of three, as stand beside one another: the layout does not shrink a legend that is too wide."""
    letter = 0.65 * _LEGEND_SIZE / 72  # inches, in the font's mean width
    handle_and_gap = 5 * _LEGEND_SIZE / 72
    widest = max(len(label) for label in labels) * letter + handle_and_gap
    return min(max(int(figure.get_figwidth() // widest), 1), 3, len(labels))


def heat_map(report: StudyReport) -> Figure | None:
    """Mean scores of two factors' levels, the values printed; None unless a grid has exactly two factors."""
    if len(report.study.factors) != 2 or report.study.search is not None:
        return None
    down, across = report.study.factors
    found = {tuple(s.levels[f.name] for f in (down, across)): s for s in report.settings}
    grid = [[found.get((row.name, column.name)) for column in across.levels] for row in down.levels]
    values = np.array([[100 * s.score.mean if s and s.score else np.nan for s in row] for row in grid])
    figure = Figure(figsize=(2.6 + 1.35 * len(across.levels), 1.9 + 0.75 * len(down.levels)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(FAINT)  # shows where a score is wanting
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value < middle else INK  # the colour map begins dark
        axes.text(j, i, _cell(grid[i][j]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(across.levels)), [short(level.name, 16) for level in across.levels])
    axes.set_yticks(range(len(down.levels)), [short(level.name, 24) for level in down.levels])
    axes.set_xlabel(short(across.name, 40))
    axes.set_ylabel(short(down.name, 40))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    several = any(s.score.sd is not None for s in report.ranked if s.score)
    spread = " (\N{PLUS-MINUS SIGN} standard deviation over seeds)" if several else ""
    figure.colorbar(image, ax=axes, label=f"{report.metric}, %{spread}", format=FuncFormatter(lambda v, _: f"{v:.1f}"))
    return figure


def _cell(setting: Setting | None) -> str:
    if setting is None or setting.score is None:
        return "no score"
    spread = f"\n\N{PLUS-MINUS SIGN} {percent(setting.score.sd)}" if setting.score.sd is not None else ""
    return f"{percent(setting.score.mean)}{spread}"
