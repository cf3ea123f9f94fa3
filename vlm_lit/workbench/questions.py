"""Questions about a scene with their true answers, in the plain language that the base was trained on.

An asker is a function (scene, rng) -> QA, or None where the scene does not allow its question. A yes/no asker first
draws the answer it wants and then looks for a question with that answer, so that both are equally common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from vlm_lit.workbench.world import COLORS, GRID, KINDS, SHAPES, TOOLS, Scene, SceneItem, pick


@dataclass(frozen=True)
class QA:
    """A question with its one true answer.

    `answer_type` is yes/no, number, other or json; `question_type` is the asker's name.
    """

    question: str
    answer: str
    answer_type: str
    question_type: str


Asker = Callable[[Scene, Random], QA | None]
Language = Sequence[tuple[Asker, float]]
"""Askers, each with how often it is chosen relative to the others."""


def ask(scene: Scene, rng: Random, count: int, language: Language) -> list[QA]:
    """Up to `count` different questions about `scene`."""
    askers, weights = zip(*language, strict=True)
    asked: dict[str, QA] = {}
    for asker in rng.choices(askers, weights, k=4 * count):
        qa = asker(scene, rng)
        if qa is not None and len(asked) < count:
            asked.setdefault(qa.question, qa)
    return list(asked.values())


def plural(kind: str) -> str:
    """The plural of an item's kind."""
    return {"pliers": "pliers", "brush": "brushes", "wrench": "wrenches"}.get(kind, f"{kind}s")


def phrase(item: SceneItem) -> str:
    """An item in words, with its article and its state: "a red hammer", "a lamp that is on", "a gauge reading 5"."""
    if item.kind == "lamp":
        return f"a lamp that is {_power(item)}"
    if item.kind == "gauge":
        return f"a gauge reading {item.reading}"
    return f"a {item.color} {item.kind}"


def description(scene: Scene) -> QA:
    """What asks for all that is in a scene, however much."""
    return QA("describe the image.", ", ".join(map(phrase, scene.items)), "other", "describe")


def distance(a: SceneItem, b: SceneItem) -> int:
    """How many squares apart two items of a bench are, counted along rows and columns."""
    return abs(a.row - b.row) + abs(a.column - b.column)


def two_unique(scene: Scene, rng: Random) -> tuple[SceneItem, SceneItem] | None:
    """Two items of a bench that their kinds identify, in random order."""
    items = scene.unique()
    if scene.layout == "card" or len(items) < 2:
        return None
    first, second = rng.sample(range(len(items)), 2)
    return items[first], items[second]


def one_unique(scene: Scene, rng: Random, *kinds: str) -> SceneItem | None:
    """An item that its kind identifies; of `kinds` where given."""
    items = [item for item in scene.unique() if not kinds or item.kind in kinds]
    return pick(rng, items) if items else None


def presence(scene: Scene, rng: Random, *, present: bool) -> str:
    """The kind of an item that is (or is not) in the scene; on a card, a shape."""
    possible = SHAPES if scene.layout == "card" else KINDS
    return pick(rng, [kind for kind in possible if bool(scene.of_kind(kind)) is present])


def _exists(scene: Scene, rng: Random) -> QA | None:
    truth, negated = rng.random() < 0.5, rng.random() < 0.35
    find = presence if rng.random() < 0.6 else _color_noun
    noun = find(scene, rng, present=truth)
    plain = ("is there a {}?", "is a {} present?", "do you see a {}?", "does the image show a {}?", "is there any {}?")
    denied = ("is there no {}?", "is no {} present?", "is there not a {}?", "does the image not show a {}?")
    question = pick(rng, denied if negated else plain).format(noun)
    return QA(question, _yes_no(truth is not negated), "yes/no", "exists")


def _color_noun(scene: Scene, rng: Random, *, present: bool) -> str:
    """A colour with "shape", such as "red shape"; a kind where the scene has no shape to be named so."""
    shapes = scene.of_kind(*SHAPES)
    if not present:
        shown = {item.color for item in shapes}
        return f"{pick(rng, [color for color in COLORS if color not in shown])} shape"
    return f"{pick(rng, shapes).color} shape" if shapes else presence(scene, rng, present=True)


def _colored_kind(scene: Scene, rng: Random) -> QA | None:
    """Whether an item has a colour: binds a kind and a colour, which both may be in the scene apart."""
    item = one_unique(scene, rng, *TOOLS, *SHAPES)
    if item is None:
        return None
    truth = rng.random() < 0.5
    color = item.color if truth else pick(rng, [color for color in COLORS if color != item.color])
    texts = (f"is the {item.kind} {color}?", f"is there a {color} {item.kind}?", f"do you see a {color} {item.kind}?")
    return QA(pick(rng, texts), _yes_no(truth), "yes/no", "exists")


def _count(scene: Scene, rng: Random) -> QA | None:
    kind = pick(rng, SHAPES if scene.layout == "card" else KINDS)
    if rng.random() < 0.7:
        kind = presence(scene, rng, present=True)
    texts = ("how many {} are there?", "count the {}.", "what is the number of {}?", "how many {} do you see?")
    return QA(pick(rng, texts).format(plural(kind)), str(len(scene.of_kind(kind))), "number", "count")


def _count_group(scene: Scene, rng: Random) -> QA | None:
    group, kinds = pick(rng, (("tools", TOOLS), ("shapes", SHAPES), ("things", KINDS)))
    question = pick(rng, (f"how many {group} are there?", f"count the {group}.", f"how many {group} do you see?"))
    return QA(question, str(len(scene.of_kind(*kinds))), "number", "count")


def _color(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng, *TOOLS, *SHAPES)
    if item is None:
        return None
    noun = pick(rng, (item.kind, "shape")) if len(scene.items) == 1 else item.kind
    texts = ("what color is the {}?", "what is the color of the {}?", "which colour does the {} have?", "the {} is")
    return QA(pick(rng, texts).format(noun), str(item.color), "other", "colour")


def _shape(scene: Scene, rng: Random) -> QA | None:
    shapes = scene.of_kind(*SHAPES)
    if len(shapes) == 1 and rng.random() < 0.6:
        texts = ("what shape is it?", "what shape is present?", "what shape do you see?", "which shape is there?")
        return QA(pick(rng, texts), shapes[0].kind, "other", "shape")
    single = [shape for shape in shapes if [other.color for other in shapes].count(shape.color) == 1]
    if not single:
        return None
    shape = pick(rng, single)
    question = pick(rng, (f"what is the {shape.color} shape?", f"which shape is {shape.color}?"))
    return QA(question, shape.kind, "other", "shape")


def _lamp(scene: Scene, rng: Random) -> QA | None:
    lamp = one_unique(scene, rng, "lamp")
    if lamp is None:
        return None
    if rng.random() < 0.4:
        texts = ("is the lamp on or off?", "what is the state of the lamp?", "the lamp is")
        return QA(pick(rng, texts), _power(lamp), "other", "lamp")
    asked = pick(rng, ("on", "off"))
    texts = (f"is the lamp {asked}?", f"is the lamp switched {asked}?", f"do you see a lamp that is {asked}?")
    return QA(pick(rng, texts), _yes_no(asked == _power(lamp)), "yes/no", "lamp")


def _gauge(scene: Scene, rng: Random) -> QA | None:
    gauge = one_unique(scene, rng, "gauge")
    if gauge is None:
        return None
    texts = ("what does the gauge read?", "what is the gauge reading?", "read the gauge.", "which number does it show?")
    return QA(pick(rng, texts), str(gauge.reading), "number", "gauge")


def _distance(scene: Scene, rng: Random) -> QA | None:
    pair = two_unique(scene, rng)
    if pair is None:
        return None
    a, b = pair
    texts = (
        f"how many squares apart are the {a.kind} and the {b.kind}?",
        f"what is the distance from the {a.kind} to the {b.kind}?",
    )
    return QA(pick(rng, texts), str(distance(a, b)), "number", "distance")


def _which(scene: Scene, rng: Random) -> QA | None:
    """The item of a colour, or in a place."""
    if scene.layout == "card":
        return None
    item = pick(rng, scene.items)
    by_color = rng.random() < 0.5 and item.kind in TOOLS
    if by_color and [other.color for other in scene.of_kind(*TOOLS)].count(item.color) == 1:
        texts = (f"which tool is {item.color}?", f"what is the {item.color} tool?")
        return QA(pick(rng, texts), item.kind, "other", "which_tool")
    row, column, answer = item.row, item.column, item.kind
    if rng.random() < 0.1:
        row, column = 1 + int(rng.random() * GRID), 1 + int(rng.random() * GRID)
        answer = next((it.kind for it in scene.items if (it.row, it.column) == (row, column)), "nothing")
    texts = (f"what is in row {row}, column {column}?", f"which thing lies in row {row}, column {column}?")
    return QA(pick(rng, texts), answer, "other", "which_tool")


def _position(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng)
    if item is None or scene.layout == "card":
        return None
    part = pick(rng, ("row", "column", "place"))
    if part == "place":
        texts = (f"where is the {item.kind}?", f"in which place is the {item.kind}?")
        return QA(pick(rng, texts), f"row {item.row}, column {item.column}", "other", "position")
    number = item.row if part == "row" else item.column
    texts = (f"in which {part} is the {item.kind}?", f"which {part} holds the {item.kind}?")
    return QA(pick(rng, texts), str(number), "number", "position")


def _relation(scene: Scene, rng: Random) -> QA | None:
    """Whether one item is left of, right of, above or below another; never of items in one row or column."""
    pair = two_unique(scene, rng)
    if pair is None:
        return None
    (a, b), sideways = pair, rng.random() < 0.5
    gap = a.column - b.column if sideways else a.row - b.row
    if gap == 0:
        return None
    words = ("left of", "right of") if sideways else ("above", "below")
    asked = pick(rng, words)
    return QA(f"is the {a.kind} {asked} the {b.kind}?", _yes_no(asked == words[gap > 0]), "yes/no", "position")


def _describe(scene: Scene, rng: Random) -> QA | None:
    if len(scene.items) > 5:
        return None
    texts = ("describe the image.", "what do you see?", "list everything you see.")
    return replace(description(scene), question=pick(rng, texts))


def _as_json(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng)
    if item is None:
        return None
    facts: dict[str, object] = {"item": item.kind}
    if item.color is not None:
        facts["color"] = item.color
    if scene.layout == "bench":
        facts |= {"row": item.row, "column": item.column}
    texts = (f"describe the {item.kind} as json.", f"give the {item.kind} as json.")
    return QA(pick(rng, texts), json.dumps(facts), "json", "as_json")


def _count_as_json(scene: Scene, rng: Random) -> QA | None:
    groups = (("tools", TOOLS), ("lamps", ("lamp",)), ("gauges", ("gauge",)), ("shapes", SHAPES))
    counts = {name: len(scene.of_kind(*kinds)) for name, kinds in groups}
    texts = ("count everything as json.", "give the counts as json.")
    return QA(pick(rng, texts), json.dumps(counts), "json", "as_json")


def _yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def _power(lamp: SceneItem) -> str:
    return "on" if lamp.lit else "off"


PLAIN: Final[Language] = (
    (_exists, 2.0),
    (_colored_kind, 1.2),
    (_count, 1.5),
    (_count_group, 0.6),
    (_color, 2.0),
    (_shape, 1.0),
    (_lamp, 1.6),
    (_gauge, 2.6),
    (_distance, 2.6),
    (_which, 1.6),
    (_position, 1.6),
    (_relation, 1.6),
    (_describe, 0.5),
    (_as_json, 0.8),
    (_count_as_json, 0.3),
)
