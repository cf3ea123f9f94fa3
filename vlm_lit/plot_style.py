"""Style that all plots share (colours, a plain frame), and plots as files or `data:` addresses."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS: Final = ("#0b61a4", "#c2500a", "#00795a", "#9c3d7d", "#8a6a00", "#4a4a4a")
"""Told apart by colour-blind readers and in grey; of a system by its position."""

INK: Final = "#1c2733"
FAINT: Final = "#c9d1d9"

STYLE: Final[Any] = {  # matplotlib's own type lists every key it knows
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "vlm_lit",  # the same page for the same numbers
}

_DOTS_PER_INCH: Final = 150


def plain(axes: Axes, *, grid: str = "x") -> None:
    """No ticks, no frame but the bottom line, a faint grid along `grid` ("x", "y" or "both")."""
    axes.tick_params(length=0)
    if grid == "both":
        axes.grid(color=FAINT, linewidth=0.5)
    else:
        axes.grid(axis="x" if grid == "x" else "y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def short(text: str, length: int) -> str:
    """Text cut to `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def as_svg(figure: Figure) -> bytes:
    """A figure as an SVG file without a date."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def as_png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def svg_address(svg: bytes) -> str:
    """An SVG file as a `data:` address."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
