"""Drawing of a scene as an RGB picture, with PIL polygons only.

A silhouette is a list of (paint, points) in reading order of the brush, with points in [-1, 1] around the item's
centre; `_PAINTS` says what the paint names mean.
"""

from __future__ import annotations

from math import cos, pi, radians, sin
from typing import Final

from PIL import Image, ImageDraw

from vlm_lit.workbench.world import GRID, MAX_READING, Color, Scene, SceneItem

SIDE: Final = 224
"""Width and height of a picture, in pixels."""

_OVERSAMPLE: Final = 2
Points = list[tuple[float, float]]
Silhouette = list[tuple[str, Points]]

_PAINTS: Final[dict[str, Color]] = {
    "metal": (170, 184, 204),
    "dark": (58, 62, 72),
    "straw": (232, 184, 92),
    "face": (255, 255, 255),
    "needle": (220, 30, 40),
    "glow": (255, 246, 170),
    "shine": (255, 214, 40),
    "dull": (96, 104, 122),
}


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, 224 x 224, antialiased."""
    side = SIDE * _OVERSAMPLE
    picture = Image.new("RGB", (side, side), scene.background)
    brush = ImageDraw.Draw(picture)
    if scene.layout == "bench":
        _draw_places(brush, scene.background, side)
    for item in scene.items:
        for paint, points in silhouette(item):
            fill = _fill(paint, item, scene.background)
            brush.polygon([(x * side, y * side) for x, y in _placed(points, item)], fill=fill)
    return picture.reduce(_OVERSAMPLE)


def silhouette(item: SceneItem) -> Silhouette:
    """The painted outlines of an item, in its own coordinates."""
    if item.kind == "lamp":
        return _lamp(lit=bool(item.lit))
    if item.kind == "gauge":
        return _gauge(item.reading or 0)
    return _OUTLINES[item.kind]


def _placed(points: Points, item: SceneItem) -> Points:
    """Turned by the item's angle, scaled to its size and moved to its place, as fractions of the side."""
    c, s = cos(radians(item.angle)), sin(radians(item.angle))
    return [
        (item.x + (x * c - y * s) * item.half_width, item.y + (x * s + y * c) * item.half_height) for x, y in points
    ]


def _fill(paint: str, item: SceneItem, background: Color) -> Color:
    if paint == "color":
        return item.rgb
    return background if paint == "bench" else _PAINTS[paint]


def _draw_places(brush: ImageDraw.ImageDraw, background: Color, side: int) -> None:
    red, green, blue = (int(channel * 0.93) for channel in background)
    for line in range(1, GRID):
        at = line * side // GRID
        brush.line([(at, 0), (at, side)], fill=(red, green, blue), width=_OVERSAMPLE)
        brush.line([(0, at), (side, at)], fill=(red, green, blue), width=_OVERSAMPLE)


def _bar(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _oval(x: float, y: float, half_width: float, half_height: float | None = None) -> Points:
    half_height = half_width if half_height is None else half_height
    angles = [2 * pi * step / 36 for step in range(36)]
    return [(x + half_width * cos(angle), y + half_height * sin(angle)) for angle in angles]


def _lamp(*, lit: bool) -> Silhouette:
    base: Silhouette = [("dark", _bar(-0.34, 0.45, 0.34, 0.95))]
    if lit:
        return [("glow", _oval(0, -0.15, 1.0, 0.85)), *base, ("shine", _oval(0, -0.15, 0.62))]
    return [*base, ("dull", _oval(0, -0.15, 0.62))]


def _gauge(reading: int) -> Silhouette:
    """A dial of 270 degrees: 0 points to the lower left, 4 straight up, 8 to the lower right."""
    ticks: Silhouette = [("dark", _ray(value, 0.74, 0.9, 0.05)) for value in range(MAX_READING + 1)]
    hand = ("needle", _ray(reading, -0.12, 0.86, 0.13))
    return [("dark", _oval(0, 0, 1.06)), ("face", _oval(0, 0, 0.94)), *ticks, hand, ("dark", _oval(0, 0, 0.14))]


def _ray(reading: int, start: float, end: float, half_width: float) -> Points:
    angle = radians(-135 + 270 * reading / MAX_READING)
    x, y = sin(angle), -cos(angle)
    across_x, across_y = -y * half_width, x * half_width
    return [
        (x * start + across_x, y * start + across_y),
        (x * start - across_x, y * start - across_y),
        (x * end - across_x / 2, y * end - across_y / 2),
        (x * end + across_x / 2, y * end + across_y / 2),
    ]


_TEETH: Final[Points] = [(-0.95 + 0.11 * step, 0.2 if step % 2 else 0.36) for step in range(13)]

_OUTLINES: Final[dict[str, Silhouette]] = {
    "hammer": [("color", _bar(-0.19, -0.5, 0.19, 1.0)), ("metal", _bar(-0.72, -0.92, 0.72, -0.34))],
    "wrench": [
        ("color", _bar(-0.2, -0.3, 0.2, 1.0)),
        ("metal", _oval(0, -0.5, 0.52)),
        ("bench", _bar(-0.2, -1.1, 0.2, -0.4)),
    ],
    "screwdriver": [
        ("metal", _bar(-0.1, -1.0, 0.1, 0.1)),
        ("color", [(-0.2, 0.0), (0.2, 0.0), (0.34, 0.2), (0.34, 1.0), (-0.34, 1.0), (-0.34, 0.2)]),
    ],
    "saw": [
        ("metal", [*_TEETH, (0.42, -0.3), (-0.95, -0.05)]),
        ("color", _oval(0.62, 0.02, 0.4, 0.5)),
        ("bench", _oval(0.64, 0.02, 0.15, 0.2)),
    ],
    "pliers": [
        ("metal", [(-0.08, -1.0), (-0.36, -0.5), (-0.1, 0.05), (0.1, 0.05), (-0.04, -0.5)]),
        ("metal", [(0.08, -1.0), (0.36, -0.5), (0.1, 0.05), (-0.1, 0.05), (0.04, -0.5)]),
        ("color", [(-0.16, -0.1), (0.16, 0.02), (-0.4, 1.0), (-0.8, 0.9)]),
        ("color", [(0.16, -0.1), (-0.16, 0.02), (0.4, 1.0), (0.8, 0.9)]),
    ],
    "brush": [
        ("straw", [(-0.5, -1.0), (0.5, -1.0), (0.42, -0.3), (-0.42, -0.3)]),
        ("dark", _bar(-0.46, -0.34, 0.46, -0.12)),
        ("color", [(-0.36, -0.14), (0.36, -0.14), (0.15, 0.3), (0.15, 1.0), (-0.15, 1.0), (-0.15, 0.3)]),
    ],
    "circle": [("color", _oval(0, 0, 1.0))],
    "rectangle": [("color", _bar(-1.0, -1.0, 1.0, 1.0))],
    "triangle": [("color", [(0.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])],
}
