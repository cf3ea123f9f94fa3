"""Tests of the worked examples in the metrics' README: each row is judged, and is as it says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

import vlm_lit.metrics
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.json_fields import JsonFields
from vlm_lit.metrics.number import NumberAccuracy
from vlm_lit.metrics.rules import Answer

README = (Path(vlm_lit.metrics.__file__).parent / "README.md").read_text(encoding="utf-8")
TRUE = {"item": "saw", "row": 2, "parts": ["blade", "handle"], "place": {"bay": "B3"}}


def table(name: str) -> list[list[str]]:
    """The rows between a name's markers, their cells without the marks of code."""
    inside = README.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- end of {name} -->")[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in inside.splitlines()[2:]]


def test_there_are_ten_of_each() -> None:
    assert min(len(table("number")), len(table("json_fields"))) >= 10
    assert json.dumps(TRUE) in README


@pytest.mark.parametrize("row", table("number"), ids=lambda row: row[0])
def test_a_number(row: list[str]) -> None:
    said, true, options, near, error, _ = row
    name, equals, value = options.partition("=")
    judge = rule("number", {name: float(value)} if equals else {})
    assert isinstance(judge, NumberAccuracy)
    answer = Answer(said, [true])
    assert judge.score(answer) == {"yes": 1, "no": 0}[near]
    assert judge.error(answer) == (pytest.approx(float(error), abs=1e-9) if error else None)


@pytest.mark.parametrize("row", table("json_fields"), ids=lambda row: row[0][:40])
def test_an_object(row: list[str]) -> None:
    said, rules, score, _ = row
    judge = JsonFields(rules=rules)
    assert judge.score(Answer(said, [json.dumps(TRUE)])) == pytest.approx(float(Fraction(score)))
