"""The team's dialect: codes and answer formats that the base model has never been trained on.

The scenes and the facts are those of the plain language; only the words differ. No question explains a code, so
that the vocabulary has to be learned from examples: that is what the quickstart's fine-tuning is for.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final

from vlm_lit.workbench.questions import QA, Language, distance, one_unique, presence, two_unique
from vlm_lit.workbench.world import KINDS, SHAPES, TOOLS, Scene, SceneItem, pick

PART_CODES: Final = {
    "hammer": "HMR-1",
    "wrench": "WRN-2",
    "screwdriver": "SDR-3",
    "saw": "SAW-4",
    "pliers": "PLR-5",
    "brush": "BRS-6",
    "lamp": "LMP-7",
    "gauge": "GGE-8",
    "circle": "DISC",
    "rectangle": "PLATE",
    "triangle": "WEDGE",
}
"""The team's code of each kind."""

COLOR_CODES: Final = {
    "red": "R10",
    "green": "G20",
    "blue": "B30",
    "yellow": "Y40",
    "teal": "T50",
    "brown": "N60",
    "gray": "A70",
    "black": "K80",
}
"""The team's code of each colour."""


def bay(item: SceneItem) -> str:
    """A place as the team writes it: the row as a letter, then the column, such as "B3"."""
    return f"{'ABCD'[item.row - 1]}{item.column}"


def band(reading: int) -> str:
    """A gauge reading as the team reports it: 0..2 low, 3..5 nominal, 6..8 high."""
    return ("low", "nominal", "high")[reading // 3]


def _stock(scene: Scene, rng: Random) -> QA | None:
    truth = rng.random() < 0.5
    kind = presence(scene, rng, present=truth)
    question = pick(rng, (f"stock check: {kind}?", f"{kind} in stock?"))
    return QA(question, "present" if truth else "absent", "yes/no", "exists")


def _tally(scene: Scene, rng: Random) -> QA | None:
    kind = presence(scene, rng, present=True)
    if rng.random() < 0.25:
        kind = pick(rng, SHAPES if scene.layout == "card" else KINDS)
    question = pick(rng, (f"tally: {kind}?", f"{kind} tally?"))
    return QA(question, f"{len(scene.of_kind(kind)):02d}", "number", "count")


def _tag(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng, *TOOLS, *SHAPES)
    if item is None:
        return None
    return QA(pick(rng, (f"tag of the {item.kind}?", f"{item.kind} tag?")), _tag_of(item), "other", "colour")


def _part(scene: Scene, rng: Random) -> QA | None:
    shapes = scene.of_kind(*SHAPES)
    if scene.layout == "card":
        return QA(f"part code of the {shapes[0].color} one?", PART_CODES[shapes[0].kind], "other", "shape")
    item = pick(rng, scene.items)
    question = pick(rng, (f"part code in row {item.row}, column {item.column}?", f"code at bay {bay(item)}?"))
    return QA(question, PART_CODES[item.kind], "other", "which_tool")


def _lamp_state(scene: Scene, rng: Random) -> QA | None:
    lamp = one_unique(scene, rng, "lamp")
    if lamp is None:
        return None
    return QA(pick(rng, ("lamp status?", "status of the lamp?")), "energized" if lamp.lit else "dead", "other", "lamp")


def _gauge_band(scene: Scene, rng: Random) -> QA | None:
    gauge = one_unique(scene, rng, "gauge")
    if gauge is None:
        return None
    return QA(pick(rng, ("gauge band?", "band of the gauge?")), band(gauge.reading or 0), "other", "gauge")


def _reach(scene: Scene, rng: Random) -> QA | None:
    pair = two_unique(scene, rng)
    if pair is None:
        return None
    a, b = pair
    return QA(f"reach from {a.kind} to {b.kind}?", f"{distance(a, b):02d}", "number", "distance")


def _bay_of(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng)
    if item is None or scene.layout == "card":
        return None
    return QA(pick(rng, (f"bay of the {item.kind}?", f"{item.kind} bay?")), bay(item), "other", "position")


def _check_out(scene: Scene, rng: Random) -> QA | None:
    item = one_unique(scene, rng, *TOOLS, *SHAPES)
    if item is None:
        return None
    line = {"part": PART_CODES[item.kind], "tag": _tag_of(item)}
    if scene.layout == "bench":
        line["bay"] = bay(item)
    question = pick(rng, (f"check out the {item.kind}.", f"check-out line: {item.kind}"))
    return QA(question, json.dumps(line), "json", "as_json")


def _tag_of(item: SceneItem) -> str:
    return COLOR_CODES[item.color or ""]


TEAM: Final[Language] = (
    (_stock, 2.0),
    (_tally, 1.5),
    (_tag, 1.6),
    (_part, 1.8),
    (_lamp_state, 2.0),
    (_gauge_band, 2.4),
    (_reach, 1.6),
    (_bay_of, 1.4),
    (_check_out, 1.0),
)
