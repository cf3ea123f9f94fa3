"""Counterfactual pairs: one question on two scenes that differ in the one thing asked, so that its answers differ.

Whoever answers from the words alone says the same twice and has at most one of the two right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import QA, Language, ask
from vlm_lit.workbench.world import COLORS, GRID, MAX_READING, SHAPES, TOOLS, Scene, SceneItem, pick

_DRAWS: Final = 40
"""Questions that are asked about each of two scenes, to find those that both allow."""
_TRIES: Final = 8
"""Changes that are tried before a scene is given up."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualPair:
    """Two scenes and a question about both.

    Args:
        changed: the second scene; all but one property of one item is that of the first.
        what: the property that differs: colour, kind, place, lamp or gauge.
        first, second: the question with the answer of each scene.
    """

    changed: Scene
    what: str
    first: QA
    second: QA


def counterfactual_pairs(shown: Scene, language: Language, count: int, rng: Random) -> list[CounterfactualPair]:
    """Up to so many pairs that begin with a scene, of different questions."""
    found: dict[str, CounterfactualPair] = {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        changed = _changed(shown, rng)
        if changed is not None and (pair := _asked(shown, *changed, language, rng)) is not None:
            found.setdefault(pair.first.question, pair)
    return list(found.values())


def _asked(shown: Scene, changed: Scene, what: str, language: Language, rng: Random) -> CounterfactualPair | None:
    """A question that both scenes allow, and whose answers differ."""
    before, after = (
        {qa.question: qa for qa in ask(scene, Random(rng.random()), _DRAWS, language)} for scene in (shown, changed)
    )
    both = [question for question in before if question in after and before[question].answer != after[question].answer]
    # Of each kind of question as often as it is there: most changes alter what describes everything.
    kinds = sorted({before[question].question_type for question in both} - {"describe", "as_json"})
    if not kinds:
        return None
    kind = pick(rng, kinds)
    question = pick(rng, [question for question in both if before[question].question_type == kind])
    return CounterfactualPair(changed=changed, what=what, first=before[question], second=after[question])


# One change ----------------------------------------------------------------------------------------------------------


def _changed(shown: Scene, rng: Random) -> tuple[Scene, str] | None:
    """The scene with one property of one item changed, and which; None where nothing comes of the draw."""
    item = pick(rng, shown.items)
    other, what = pick(rng, list(_changes(item, shown, rng)))
    items = tuple(other if one is item else one for one in shown.items)
    if shown.layout == "card":
        kinds, colors = ({getattr(one, name) for one in items} for name in ("kind", "color"))
        if len(kinds) < len(items) or len(colors) < len(items):
            return None  # two shapes of a card differ in kind and colour
    else:
        items = tuple(sorted(items, key=lambda one: (one.row, one.column)))
    made = replace(shown, items=items)
    # A drawing of few pixels may look the same, as that of two needles nearly does.
    return (made, what) if draw(made).tobytes() != draw(shown).tobytes() else None


def _changes(item: SceneItem, shown: Scene, rng: Random) -> Iterator[tuple[SceneItem, str]]:
    if item.kind == "lamp":
        yield replace(item, lit=not item.lit), "lamp"
    elif item.kind == "gauge":
        readings = [reading for reading in range(MAX_READING + 1) if reading != item.reading]
        yield replace(item, reading=pick(rng, readings)), "gauge"
    else:
        color = pick(rng, [color for color in COLORS if color != item.color])
        yield replace(item, color=color, rgb=COLORS[color]), "colour"
        yield _of_kind(item, rng), "kind"
    if shown.layout == "bench":
        yield _moved(item, shown, rng), "place"


def _of_kind(item: SceneItem, rng: Random) -> SceneItem:
    """The item as another of its group: a tool stays a tool, for the sizes of tools and shapes are not alike."""
    group = TOOLS if item.kind in TOOLS else SHAPES
    kind = pick(rng, [kind for kind in group if kind != item.kind])
    height = item.half_width * (0.7 if kind == "rectangle" else 1.0)
    return replace(item, kind=kind, half_height=height)


def _moved(item: SceneItem, shown: Scene, rng: Random) -> SceneItem:
    taken = {(one.row, one.column) for one in shown.items}
    places = [(row, column) for row in range(1, GRID + 1) for column in range(1, GRID + 1)]
    row, column = pick(rng, [place for place in places if place not in taken])
    x, y = item.x + (column - item.column) / GRID, item.y + (row - item.row) / GRID
    return replace(item, x=x, y=y, row=row, column=column)
