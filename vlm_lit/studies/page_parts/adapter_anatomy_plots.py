"""Plots of LoRA updates: a map of their norms over layers, and their singular values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vlm_lit.plot_style import FAINT, INK, STYLE, as_png, as_svg, plain, short
from vlm_lit.studies.run_files.adapter_anatomy import AdapterAnatomy, LoraUpdate

_ACROSS: Final = 4  # panels of singular values in a row
_MOST_PRINTED: Final = 16  # layers whose norms still have room to be written into the map
_COLOURS: Final = colormaps["cividis"]
_LIGHTEST: Final = 0.85  # the colour map's yellow end is too light for a line on white


def anatomy_plots(anatomy: AdapterAnatomy) -> dict[str, bytes]:
    """Figures as PNG and as SVG, by file name: `norms` and `singular_values`, with a number for further stacks."""
    drawn: dict[str, Callable[[Sequence[LoraUpdate]], Figure]] = {
        "norms": norms_map,
        "singular_values": singular_values_plot,
    }
    files: dict[str, bytes] = {}
    with rc_context(STYLE):
        for number, stack in enumerate(anatomy.stacks, start=1):
            for name, draw in drawn.items():
                figure = draw(anatomy.of(stack))
                stem = name if number == 1 else f"{name}_{number}"
                files |= {f"{stem}.png": as_png(figure), f"{stem}.svg": as_svg(figure)}
    return files


def norms_map(updates: Sequence[LoraUpdate]) -> Figure:
    """Frobenius norms of one stack's updates: a row a layer, a column a leaf."""
    layers, leaves = _layers(updates), _leaves(updates)
    values = np.full((len(layers), len(leaves)), np.nan)
    for update in updates:
        values[layers.index(_layer(update)), leaves.index(update.leaf)] = update.norm
    figure = Figure(figsize=(2.6 + 1.0 * len(leaves), 1.9 + 0.42 * min(len(layers), 24)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(FAINT)  # shows where there is no update
    image = axes.imshow(values, cmap=_COLOURS, aspect="auto", vmin=0)
    if len(layers) <= _MOST_PRINTED:
        _print_values(axes, values)
    axes.set_xticks(range(len(leaves)), [short(leaf, 40).replace(".", ".\n") for leaf in leaves])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.yaxis.set_major_formatter(lambda row, _: layers[int(row)] if 0 <= row < len(layers) else "")
    axes.set_ylabel("layer")
    axes.set_title(_title(updates), loc="left", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="Frobenius norm of scale \N{MULTIPLICATION SIGN} BA")
    bar.outline.set_visible(False)
    return figure


def _print_values(axes: Axes, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    middle = np.nanmax(values) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < middle else INK  # the colour map begins dark
            axes.text(column, row, f"{value:#.2g}", ha="center", va="center", color=colour, fontsize=9)


def singular_values_plot(updates: Sequence[LoraUpdate]) -> Figure:
    """A panel a leaf of one stack, a line a layer: singular values from large to small."""
    leaves, layers = _leaves(updates), _layers(updates)
    rows = -(-len(leaves) // _ACROSS)
    across = min(_ACROSS, len(leaves))
    figure = Figure(figsize=(1.2 + 2.5 * across, 0.8 + 2.3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).flat)
    scale = Normalize(0, max(1, len(layers) - 1))
    for axes, leaf in zip(panels, leaves, strict=False):
        for update in (update for update in updates if update.leaf == leaf):
            colour = _COLOURS(_LIGHTEST * scale(layers.index(_layer(update))))
            places = range(1, len(update.singular_values) + 1)
            mark = "o" if update.rank == 1 else None
            axes.plot(places, update.singular_values, color=colour, linewidth=1.3, marker=mark)
        axes.set_title(short(leaf, 32), loc="left", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
        plain(axes, grid="both")
    panels[0].set_ylim(0, 1.05 * max(update.singular_values[0] for update in updates) or 1.0)
    for place in range(len(leaves), len(panels)):
        panels[place].set_visible(False)
        panels[place - across].tick_params(labelbottom=True)
    figure.suptitle(_title(updates), x=0.01, ha="left", fontsize=10)
    figure.supxlabel("number of the singular value", fontsize=10)
    figure.supylabel("singular value of scale \N{MULTIPLICATION SIGN} BA", fontsize=10)
    _layer_bar(figure, panels[: len(leaves)], layers)
    return figure


def _layer_bar(figure: Figure, panels: Sequence[Axes], layers: Sequence[str]) -> None:
    """Which colour is which layer; nothing where there is but one."""
    if len(layers) < 2:
        return
    shades = ListedColormap(_COLOURS(np.linspace(0, _LIGHTEST, len(layers))))
    bar = ScalarMappable(Normalize(-0.5, len(layers) - 0.5), shades)
    found = figure.colorbar(bar, ax=panels, label="layer", ticks=MaxNLocator(integer=True, nbins=12))
    found.ax.yaxis.set_major_formatter(lambda at, _: layers[int(at)] if 0 <= at < len(layers) else "")
    found.ax.invert_yaxis()
    found.outline.set_visible(False)


def _layer(update: LoraUpdate) -> str:
    return "\N{EN DASH}" if update.layer is None else str(update.layer)


def _layers(updates: Sequence[LoraUpdate]) -> list[str]:
    return list(dict.fromkeys(_layer(update) for update in updates))


def _leaves(updates: Sequence[LoraUpdate]) -> list[str]:
    return sorted({update.leaf for update in updates})


def _title(updates: Sequence[LoraUpdate]) -> str:
    return short(f"{updates[0].part}: {updates[0].stack}", 80)
