"""Tests of `json_fields` against a second implementation of it, written for this file alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_lit.metrics.json_fields import JsonFields
from vlm_lit.metrics.rules import Answer, column_sums

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "maxLength": 5},
        "row": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["tool", "lamp"]},
        "parts": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["item", "row"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"bay": {"type": "string", "pattern": "^[A-D][1-5]$"}}}},
}
WORDS = st.sampled_from(["saw", "saws", "a saw", "Saw.", "lamp", "hammer", "", "2", "two"])
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "item": WORDS | st.just(3),
        "row": st.integers(-1, 4) | st.sampled_from([2.0, 2.1, "2", "row two", True, None]),
        "kind": st.sampled_from(["tool", "lamp", "bay"]),
        "parts": st.lists(WORDS, max_size=3) | WORDS,
        "place": st.fixed_dictionaries({"bay": st.sampled_from(["B3", "b3", "E9", 3])}) | st.just({}),
        "more": st.booleans(),
    },
)
PAIRS = st.lists(st.tuples(OBJECTS | st.just(None), OBJECTS), min_size=1, max_size=5)
RULES = "item=anls,kind=text,row=number"
TOLERANCE = 0.1


@cache
def edits(a: str, b: str) -> int:
    """Levenshtein's distance, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


def anls(a: str, b: str) -> float:
    far = edits(" ".join(a.lower().split()), " ".join(b.lower().split())) / (max(len(a), len(b)) or 1)
    return 1 - far if far <= 0.5 else 0.0


def kept(found: dict[str, Any]) -> bool:
    """Whether an object keeps SCHEMA, by hand."""

    def whole(value: object) -> bool:
        return not isinstance(value, bool) and (
            isinstance(value, int) or (value in (2.0,) and isinstance(value, float))
        )

    checks: dict[str, Callable[[Any], bool]] = {
        "item": lambda v: isinstance(v, str) and len(v) <= 5,
        "row": lambda v: whole(v) and v >= 1,
        "kind": lambda v: v in ("tool", "lamp"),
        "parts": lambda v: isinstance(v, list) and len(v) <= 2,
        "place": lambda v: "bay" not in v or (isinstance(v["bay"], str) and bool(re.fullmatch("[A-D][1-5]", v["bay"]))),
    }
    return {"item", "row"} <= found.keys() <= checks.keys() and all(checks[k](v) for k, v in found.items())


def flat(found: dict[str, Any]) -> dict[str, Any]:
    place = found.get("place")
    rest = {k: v for k, v in found.items() if k != "place"}
    return rest if place is None else {**rest, **({"place.bay": place["bay"]} if place else {"place": {}})}


NUMBERS = {"2": 2.0, "row two": 2.0, "two": 2.0}


def number(value: object) -> float | None:
    if isinstance(value, str):
        return NUMBERS.get(value)
    return None if isinstance(value, bool) or value is None else float(value)  # type: ignore[arg-type]


def right(name: str, said: Any, true: Any) -> float:
    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    if name == "item":
        return anls(text(said), text(true))
    if name == "row":
        a, b = number(said), number(true)
        return float(said is true) if a is None or b is None else float(abs(a - b) <= TOLERANCE * abs(b) + 1e-9)
    if name == "parts" and isinstance(true, list):
        if not isinstance(said, list):
            return 0.0
        both = sum(min(said.count(word), true.count(word)) for word in set(true))
        return 2 * both / (len(said) + len(true)) if said or true else 1.0
    return float(said == true and isinstance(said, bool) == isinstance(true, bool))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> JsonFields:
    schema = tmp_path_factory.mktemp("schema") / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    return JsonFields(schema=str(schema), rules=RULES, tolerance=TOLERANCE)


@settings(deadline=None)
@given(PAIRS)
def test_both_say_the_same(judge: JsonFields, pairs: list[tuple[dict[str, Any] | None, dict[str, Any]]]) -> None:
    texts = [("no object" if said is None else json.dumps(said), json.dumps(true)) for said, true in pairs]
    counts = [judge.counts(Answer(said, [true])) for said, true in texts]
    found = judge.values(column_sums([one for one in counts if one is not None]), len(counts))
    n, scores, by_field = len(pairs), [], dict[str, list[float]]()
    missing = extra = trues = saids = 0
    for said, true in pairs:
        a, b = flat(said or {}), flat(true)
        each = {name: right(name, a[name], b[name]) if name in a else 0.0 for name in b}
        for name, score in each.items():
            by_field.setdefault(name, []).append(score)
        every = len({*a, *b})
        scores.append(sum(each.values()) / every if every else float(said is not None))
        missing += len(b.keys() - a.keys())
        extra += len(a.keys() - b.keys())
        trues, saids = trues + len(b), saids + len(a)
    assert found == pytest.approx(
        {
            "overall": sum(scores) / n,
            "parsed": sum(said is not None for said, _ in pairs) / n,
            "schema": sum(said is not None and kept(said) for said, _ in pairs) / n,
            "all_right": sum(score > 1 - 1e-12 for score in scores) / n,
            "missing": missing / trues if trues else 0.0,
            "extra": extra / saids if saids else 0.0,
            **{
                f"field/{name}": sum(by_field.get(name, [])) / len(by_field.get(name, [0.0]))
                for name in ("item", "row", "kind", "parts", "place.bay")
            },
        }
    )
