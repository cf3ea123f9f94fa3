"""Pictures of products: eight kinds of things in a colour, a pattern and a size, on a plain ground."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE: Final = 448
_DRAWN: Final = 2 * SIDE  # drawn at twice the size, so that edges come out smooth

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "red": (196, 48, 43), "orange": (232, 129, 32), "yellow": (240, 200, 60), "green": (62, 142, 78),
    "teal": (36, 140, 140), "blue": (45, 98, 170), "purple": (122, 80, 155), "pink": (226, 128, 160),
    "brown": (126, 84, 54), "grey": (120, 124, 130),
}  # fmt: skip
PATTERNS: Final = ("plain", "striped", "dotted")

_GROUNDS: Final = ((248, 248, 246), (238, 242, 246), (246, 240, 232), (240, 244, 238))
_Mask = Image.Image
_Pen = ImageDraw.ImageDraw


@dataclass(frozen=True, kw_only=True)
class Look:
    """What can be seen of a product; `scale` is its size in the picture, from 0.7 to 1."""

    kind: str
    colour: str
    pattern: str
    scale: float


def draw(look: Look, random: Random) -> bytes:
    """The product as the bytes of a PNG file: the same for the same random numbers."""
    ground = random.choice(_GROUNDS)
    canvas = Image.new("RGB", (_DRAWN, _DRAWN), ground)
    body, trim = Image.new("L", canvas.size), Image.new("L", canvas.size)
    SHAPES[look.kind](ImageDraw.Draw(body), ImageDraw.Draw(trim))
    size = round(_DRAWN * look.scale)
    at = ((_DRAWN - size) // 2 + random.randint(-30, 30), round((_DRAWN - size) * 0.6))
    body, trim = (_placed(mask, size, at) for mask in (body, trim))
    colour = COLOURS[look.colour]
    _shadow(canvas, ImageChops.lighter(body, trim))
    canvas.paste(_shaded(tuple(round(part * 0.55) for part in colour)), (0, 0), trim)
    canvas.paste(_shaded(colour), (0, 0), body)
    marks = ImageChops.multiply(_marks(look.pattern, size), body)
    canvas.paste(_shaded(tuple(round(part * 0.25 + 184) for part in colour)), (0, 0), marks)
    buffer = io.BytesIO()
    canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _placed(mask: _Mask, size: int, at: tuple[int, int]) -> _Mask:
    whole = Image.new("L", mask.size)
    whole.paste(mask.resize((size, size), Image.Resampling.LANCZOS), at)
    return whole


def _shadow(canvas: Image.Image, shape: _Mask) -> None:
    box = shape.getbbox()
    assert box is not None
    left, _, right, bottom = box
    soft = Image.new("L", canvas.size)
    ImageDraw.Draw(soft).ellipse((left - 10, bottom - 28, right + 10, bottom + 22), fill=90)
    canvas.paste((90, 90, 90), (0, 0), soft.filter(ImageFilter.GaussianBlur(14)))


def _shaded(colour: tuple[int, ...]) -> Image.Image:
    """A colour that is lighter on the left, where the light comes from, and darker on the right."""
    light = Image.linear_gradient("L").rotate(90).resize((_DRAWN, _DRAWN))
    dark = Image.new("RGB", (_DRAWN, _DRAWN), tuple(round(part * 0.8) for part in colour))
    bright = Image.new("RGB", (_DRAWN, _DRAWN), tuple(min(255, round(part * 1.1 + 12)) for part in colour))
    return Image.composite(dark, bright, light)


def _marks(pattern: str, size: int) -> _Mask:
    marks = Image.new("L", (_DRAWN, _DRAWN))
    pen, step = ImageDraw.Draw(marks), max(24, size // 12)
    if pattern == "striped":
        for y in range(0, _DRAWN, step):
            pen.rectangle((0, y, _DRAWN, y + step * 2 // 5), fill=255)
    elif pattern == "dotted":
        for row, y in enumerate(range(0, _DRAWN, step)):
            for x in range(step // 2 * (row % 2), _DRAWN, step):
                pen.ellipse((x, y, x + step * 2 // 5, y + step * 2 // 5), fill=255)
    return marks


# Each shape is drawn on a square of 896: its body takes the colour and the pattern, its trim a darker tone. --------


def _mug(body: _Pen, trim: _Pen) -> None:
    trim.ellipse((560, 300, 800, 640), outline=255, width=56)
    body.rounded_rectangle((180, 330, 640, 780), radius=60, fill=255)
    body.rectangle((180, 215, 640, 500), fill=255)
    trim.ellipse((180, 150, 640, 270), fill=255)


def _lamp(body: _Pen, trim: _Pen) -> None:
    trim.rectangle((430, 420, 466, 770), fill=255)
    trim.ellipse((290, 735, 606, 815), fill=255)
    body.polygon(((330, 130), (566, 130), (720, 470), (176, 470)), fill=255)


def _box(body: _Pen, trim: _Pen) -> None:
    body.rounded_rectangle((130, 380, 766, 790), radius=20, fill=255)
    trim.rounded_rectangle((100, 270, 796, 372), radius=20, fill=255)


def _vase(body: _Pen, trim: _Pen) -> None:
    body.ellipse((220, 340, 676, 800), fill=255)
    body.polygon(((380, 400), (516, 400), (496, 180), (400, 180)), fill=255)
    trim.ellipse((370, 140, 526, 200), fill=255)


def _bag(body: _Pen, trim: _Pen) -> None:
    trim.arc((290, 110, 606, 560), 180, 360, fill=255, width=36)
    body.polygon(((190, 330), (706, 330), (770, 800), (126, 800)), fill=255)


def _bottle(body: _Pen, trim: _Pen) -> None:
    body.rounded_rectangle((300, 330, 596, 820), radius=56, fill=255)
    body.polygon(((300, 400), (596, 400), (510, 230), (386, 230)), fill=255)
    trim.rounded_rectangle((376, 110, 520, 222), radius=20, fill=255)


def _cushion(body: _Pen, trim: _Pen) -> None:
    for x, y in ((150, 250), (746, 250), (150, 750), (746, 750)):
        trim.ellipse((x - 40, y - 40, x + 40, y + 40), fill=255)
    body.rounded_rectangle((150, 250, 746, 750), radius=120, fill=255)


def _shoe(body: _Pen, trim: _Pen) -> None:
    trim.rounded_rectangle((70, 690, 830, 780), radius=40, fill=255)
    body.polygon(((90, 700), (90, 360), (330, 360), (470, 520), (700, 570), (810, 640), (820, 700)), fill=255)
    trim.line(((330, 400), (250, 470)), fill=255, width=18)


SHAPES: Final[Mapping[str, Callable[[_Pen, _Pen], None]]] = {
    "mug": _mug, "lamp": _lamp, "box": _box, "vase": _vase, "bag": _bag, "bottle": _bottle, "cushion": _cushion,
    "shoe": _shoe,
}  # fmt: skip
