"""Tests of questions and answers: each answer is worked out again from the scene and the words."""

import json
import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from vlm_lit.workbench.dialect import COLOR_CODES, PART_CODES, TEAM, band
from vlm_lit.workbench.questions import PLAIN, QA, ask
from vlm_lit.workbench.world import COLORS, KINDS, SHAPES, TOOLS, Scene, SceneItem, scene

SCENES = [scene(12, index) for index in range(600)]
ASKED = [(shown, qa) for shown in SCENES for qa in ask(shown, Random(shown.name), 8, PLAIN)]
TEAM_ASKED = [(shown, qa) for shown in SCENES for qa in ask(shown, Random(shown.name), 8, TEAM)]
GROUPS: dict[str, tuple[str, ...]] = {"tools": TOOLS, "shapes": SHAPES, "things": KINDS}


def named(text: str) -> list[str]:
    """The kinds that a text names, in order."""
    return re.findall("|".join(KINDS), text.replace("wrenches", "wrench"))


def find(shown: Scene, kind: str) -> SceneItem:
    (item,) = [item for item in shown.items if item.kind == kind]
    return item


def exists(shown: Scene, question: str) -> str:
    negated = any(word in question.split() for word in ("no", "not"))
    kinds, colors = named(question), [color for color in COLORS if color in re.findall(r"\w+", question)]
    matching = [
        item for item in shown.items if (item.kind in (kinds or SHAPES)) and (not colors or item.color == colors[0])
    ]
    return "yes" if bool(matching) is not negated else "no"


def count(shown: Scene, question: str) -> str:
    group = next((GROUPS[name] for name in GROUPS if name in question), None)
    return str(sum(item.kind in (group or named(question)) for item in shown.items))


def color(shown: Scene, question: str) -> str:
    kinds = named(question)
    return str(find(shown, kinds[0]).color) if kinds else str(shown.items[0].color)


def gauge(shown: Scene, question: str) -> str:
    return str(find(shown, "gauge").reading) if question else ""


def lamp(shown: Scene, question: str) -> str:
    state = "on" if find(shown, "lamp").lit else "off"
    asked = re.findall(r"\b(?:on|off)\b", question)
    return state if len(asked) != 1 else "yes" if asked[0] == state else "no"


def distance(shown: Scene, question: str) -> str:
    a, b = (find(shown, kind) for kind in named(question))
    return str(sum((abs(a.row - b.row), abs(a.column - b.column))))


def position(shown: Scene, question: str) -> str:
    kinds = [find(shown, kind) for kind in named(question)]
    if len(kinds) == 2:
        a, b = kinds
        truth = {"left": a.column < b.column, "right": a.column > b.column, "above": a.row < b.row}
        truth["below"] = a.row > b.row
        return "yes" if truth[re.findall("left|right|above|below", question)[0]] else "no"
    place = {"row": str(kinds[0].row), "column": str(kinds[0].column)}
    part = re.findall(r"\b(row|column)\b", question)
    return place[part[0]] if part else f"row {place['row']}, column {place['column']}"


@pytest.mark.parametrize(
    ("question_type", "answer"),
    [
        ("exists", exists),
        ("count", count),
        ("colour", color),
        ("gauge", gauge),
        ("lamp", lamp),
        ("distance", distance),
        ("position", position),
    ],
)
def test_answers_agree_with_the_scene(question_type: str, answer: Callable[[Scene, str], str]) -> None:
    asked = [(shown, qa) for shown, qa in ASKED if qa.question_type == question_type]
    assert len(asked) > 50
    for shown, qa in asked:
        assert answer(shown, qa.question) == qa.answer, (qa, shown)


def test_json_answers_name_the_item_asked_for() -> None:
    asked = [(shown, qa) for shown, qa in ASKED if qa.answer_type == "json"]
    for shown, qa in asked:
        facts = json.loads(qa.answer)
        if "item" in facts:
            item = find(shown, named(qa.question)[0])
            assert (facts["item"], facts.get("color")) == (item.kind, item.color)
            assert (facts.get("row", 0), facts.get("column", 0)) == (item.row, item.column)
        else:
            assert sum(facts.values()) == sum(item.kind not in TOOLS for item in shown.items) + facts["tools"]


def test_a_description_names_every_item() -> None:
    for shown, qa in ASKED:
        if qa.question_type == "describe":
            assert sorted(named(qa.answer)) == sorted(item.kind for item in shown.items)


@pytest.mark.parametrize(("asked", "positive"), [(ASKED, "yes"), (TEAM_ASKED, "present")])
def test_yes_and_no_are_equally_common(asked: list[tuple[Scene, QA]], positive: str) -> None:
    by_type: dict[str, Counter[bool]] = {}
    for _, qa in asked:
        if qa.answer_type == "yes/no":
            by_type.setdefault(qa.question_type, Counter())[qa.answer == positive] += 1
    assert by_type
    for question_type, answers in by_type.items():
        assert 0.42 < answers[True] / answers.total() < 0.58, question_type


def test_negated_questions_are_asked_and_balanced() -> None:
    answers = Counter(qa.answer for _, qa in ASKED if re.search(r"\b(no|not)\b", qa.question))
    assert answers.total() > 150
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_a_scene_is_not_asked_the_same_twice() -> None:
    for shown in SCENES[:100]:
        asked = [qa.question for qa in ask(shown, Random(3), 8, PLAIN)]
        assert len(set(asked)) == len(asked) > 3


def test_every_type_is_asked() -> None:
    plain = {"exists", "count", "colour", "shape", "lamp", "gauge", "distance", "which_tool", "position"}
    assert {qa.question_type for _, qa in ASKED} == plain | {"describe", "as_json"}
    assert {qa.question_type for _, qa in TEAM_ASKED} == plain | {"as_json"}


def test_the_team_writes_counts_and_distances_with_two_digits() -> None:
    for shown, qa in TEAM_ASKED:
        kinds = named(qa.question)
        if qa.question_type == "count":
            assert qa.answer == f"{sum(item.kind == kinds[0] for item in shown.items):02d}"
        if qa.question_type == "distance":
            assert qa.answer == f"0{distance(shown, qa.question)}"


def test_the_team_checks_out_with_its_own_keys_and_codes() -> None:
    for shown, qa in TEAM_ASKED:
        if qa.answer_type == "json":
            item, line = find(shown, named(qa.question)[0]), json.loads(qa.answer)
            assert (line["part"], line["tag"]) == (PART_CODES[item.kind], COLOR_CODES[item.color or ""])
            assert ("bay" in line) is (shown.layout == "bench")


def test_the_team_never_answers_in_plain_words() -> None:
    plain_answers = {qa.answer for _, qa in ASKED}
    assert not {qa.answer for _, qa in TEAM_ASKED} & plain_answers


def test_bands_part_the_dial_in_three() -> None:
    assert [band(reading) for reading in range(9)] == ["low"] * 3 + ["nominal"] * 3 + ["high"] * 3
