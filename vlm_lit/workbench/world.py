"""Scenes of the workbench, each a pure function of (seed, index).

Two layouts. A *bench* is seen from above and has a 4 x 4 grid of places, some of which hold a tool, a lamp, a gauge
or a coloured shape. A *card* is a pale card with one or two coloured shapes of free size and place. Lengths are
fractions of the image's side, x grows to the right and y downwards; rows and columns count from 1, at the top left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, TypeVar

Layout = Literal["bench", "card"]
Color = tuple[int, int, int]

GRID: Final = 4
TOOLS: Final = ("hammer", "wrench", "screwdriver", "saw", "pliers", "brush")
SHAPES: Final = ("circle", "rectangle", "triangle")
KINDS: Final = (*TOOLS, "lamp", "gauge", *SHAPES)
COLORS: Final[dict[str, Color]] = {
    "red": (248, 12, 12),
    "green": (10, 225, 10),
    "blue": (12, 18, 245),
    "yellow": (250, 240, 16),
    "teal": (6, 128, 128),
    "brown": (158, 48, 40),
    "gray": (128, 128, 128),
    "black": (8, 8, 8),
}
"""RGB of each colour name, 0..255; a scene varies each channel a little."""

MAX_READING: Final = 8
CARD_SHARE: Final = 0.35
_PLACE: Final = 1 / GRID

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SceneItem:
    """One thing in a scene.

    `color` names the handle or the shape, None for lamps and gauges; `rgb` is the shade it has here. `x, y` are its
    centre and `half_width, half_height` its half-extents, as fractions of the image's side. `angle` is in degrees.
    `lit` belongs to lamps and `reading` (0..8) to gauges. `row, column` are its place on a bench, 0 on a card.
    """

    kind: str
    x: float
    y: float
    half_width: float
    half_height: float
    color: str | None = None
    rgb: Color = (0, 0, 0)
    angle: float = 0.0
    lit: bool | None = None
    reading: int | None = None
    row: int = 0
    column: int = 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything an image shows, in reading order; `name` is the image's id."""

    name: str
    layout: Layout
    background: Color
    items: tuple[SceneItem, ...]

    def of_kind(self, *kinds: str) -> list[SceneItem]:
        """The items of any of `kinds`."""
        return [item for item in self.items if item.kind in kinds]

    def unique(self) -> list[SceneItem]:
        """The items whose kind occurs once, so that a question can mean them by it."""
        return [item for item in self.items if len(self.of_kind(item.kind)) == 1]


def scene(seed: int, index: int) -> Scene:
    """Scene number `index` of the world `seed`."""
    rng = Random(f"workbench scene {seed}/{index}")
    name = f"{seed}-{index:06d}"
    return _card(rng, name) if rng.random() < CARD_SHARE else _bench(rng, name)


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of `options`; stays the same between Python versions, which `Random.choice` does not promise."""
    return options[int(rng.random() * len(options))]


def _bench(rng: Random, name: str) -> Scene:
    # A small stock of kinds per scene makes several of a kind common, which counting needs.
    stock = rng.sample((*TOOLS, *SHAPES), 1 + int(rng.random() * 5))
    kinds = [pick(rng, stock) for _ in range(2 + int(rng.random() * 4))]
    for kind in ("lamp", "gauge"):
        kinds += [kind] * rng.choices((0, 1, 2), (0.42, 0.48, 0.1))[0]
    rng.shuffle(kinds)
    places = sorted(rng.sample(range(GRID * GRID), len(kinds)))
    items = tuple(_bench_item(rng, kind, *divmod(place, GRID)) for kind, place in zip(kinds, places, strict=True))
    background = _rgb([channel + int(rng.uniform(-12, 12)) for channel in (228, 212, 188)])
    return Scene(name=name, layout="bench", background=background, items=items)


def _bench_item(rng: Random, kind: str, row: int, column: int) -> SceneItem:
    x, y = ((at + 0.5) * _PLACE + rng.uniform(-0.018, 0.018) for at in (column, row))
    half = _PLACE / 2 * (rng.uniform(0.5, 0.8) if kind in SHAPES else rng.uniform(0.8, 0.88))
    color = None if kind in ("lamp", "gauge") else pick(rng, tuple(COLORS))
    return SceneItem(
        kind=kind,
        x=x,
        y=y,
        half_width=half,
        half_height=half * (rng.uniform(0.5, 0.85) if kind == "rectangle" else 1.0),
        color=color,
        rgb=_shade(rng, color) if color else (0, 0, 0),
        angle=rng.uniform(-25, 25) if kind in TOOLS else 0.0,
        lit=rng.random() < 0.5 if kind == "lamp" else None,
        reading=int(rng.random() * (MAX_READING + 1)) if kind == "gauge" else None,
        row=row + 1,
        column=column + 1,
    )


def _card(rng: Random, name: str) -> Scene:
    items = [_card_item(rng)]
    if rng.random() < 0.25:
        other = _card_item(rng)
        if _apart(items[0], other):
            items.append(other)
    background = _rgb([225 + int(rng.random() * 31) for _ in range(3)])
    return Scene(name=name, layout="card", background=background, items=tuple(sorted(items, key=lambda it: it.x)))


def _card_item(rng: Random) -> SceneItem:
    kind, color = pick(rng, SHAPES), pick(rng, tuple(COLORS))
    width = rng.uniform(0.075, 0.28)
    height = rng.uniform(0.075, 0.28) if kind == "rectangle" else width
    x, y = rng.uniform(width, 1 - width), rng.uniform(height, 1 - height)
    return SceneItem(kind=kind, x=x, y=y, half_width=width, half_height=height, color=color, rgb=_shade(rng, color))


def _apart(a: SceneItem, b: SceneItem) -> bool:
    """Whether two items differ in kind and colour, and neither covers nor touches the other."""
    gap_x = abs(a.x - b.x) - a.half_width - b.half_width
    gap_y = abs(a.y - b.y) - a.half_height - b.half_height
    return a.kind != b.kind and a.color != b.color and max(gap_x, gap_y) > 0.03


def _shade(rng: Random, color: str) -> Color:
    return _rgb([min(255, max(0, channel + int(rng.uniform(-9, 9)))) for channel in COLORS[color]])


def _rgb(channels: Sequence[int]) -> Color:
    red, green, blue = channels
    return red, green, blue
