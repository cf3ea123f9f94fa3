"""Tests of AMBER's own files: its annotations and queries, whole dimensions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import refusal
from vlm_lit.cli import main

Capture = pytest.CaptureFixture[str]

TRUTHS = [
    {"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["sun"]},
    {"id": 2, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 3, "type": "discriminative-attribute-number", "truth": "no"},
    {"id": 4, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 5, "type": "relation", "truth": "no"},
]
QUERIES = [{"id": n, "image": f"AMBER_{1 + n // 4}.jpg", "query": "?"} for n in range(1, 6)]


def said(**answers: str) -> list[dict[str, object]]:
    """Answers by `n` and the question's number."""
    return [{"id": int(name[1:]), "response": text} for name, text in answers.items()]


RIGHT = said(n2="Yes", n3="No", n4="No", n5="Yes")


def arguments(
    folder: Path, answers: object, truths: object = TRUTHS, queries: object = None, *, metric: str = "amber"
) -> list[str]:
    named = []
    for name, content in (("predictions", answers), ("annotations", truths), ("questions", queries)):
        if content is not None:
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content), encoding="utf-8")
            named += [f"--{name}", str(path)]
    return ["score", "--metric", metric, *named, "--output", str(folder / "scores.json")]


def scored(folder: Path, *contents: Any) -> dict[str, Any]:
    assert main(arguments(folder, *contents)) == 0
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


def test_ambers_files(tmp_path: Path, capsys: Capture) -> None:
    found = scored(tmp_path, [*RIGHT[:3], {"id": 5, "response": "no"}], TRUTHS, QUERIES)
    assert (found["metric"], found["overall"], found["n"], found["unparsed"]) == ("amber", 75.0, 4, 1)
    assert found["groups"]["dimension"] == {
        "attribute": {"score": 100.0, "n": 2},
        "existence": {"score": 100.0, "n": 1},
        "relation": {"score": 0.0, "n": 1},
    }
    assert found["details"]["dimension/existence/f1"] == 99.9
    assert found["image_ids"] == {"2": "AMBER_1.jpg", "3": "AMBER_1.jpg", "4": "AMBER_2.jpg", "5": "AMBER_2.jpg"}
    assert "1 unparsed" in capsys.readouterr().out


def test_one_dimension_may_be_answered_alone(tmp_path: Path) -> None:
    found = scored(tmp_path, said(n3="No", n2="No"))
    assert (found["n"], found["image_ids"], list(found["groups"]["dimension"])) == (2, {}, ["attribute"])


def test_generative_answers_are_left_out_of_a_file_with_others(tmp_path: Path, capsys: Capture) -> None:
    found = scored(tmp_path, [*said(n1="A sky."), *RIGHT])
    assert (found["n"], "1" in found["per_item"]) == (4, False)
    assert "1 left out by this metric" in capsys.readouterr().out


def test_generative_answers_alone_are_refused_with_what_is_missing(tmp_path: Path, capsys: Capture) -> None:
    shown = refusal(capsys, *arguments(tmp_path, said(n1="A sky with a sun.")))
    assert "generative questions are not judged here" in shown
    assert all(name in shown for name in ("part-of-speech tagger", "WordNet", "en_core_web_lg", "inference.py"))


@pytest.mark.parametrize(
    ("answers", "truths", "says"),
    [
        (RIGHT[1:], TRUTHS, "1 questions in {0}/annotations.json are missing (1 of attribute), such as 2"),
        ([*RIGHT, *said(n9="No")], TRUTHS, "record 4 (id 9): {0}/annotations.json has no question 9"),
        ([*RIGHT, RIGHT[0]], TRUTHS, "the id 2 stands there twice"),
        ([{"id": 2}], TRUTHS, "record 0 (id 2): it has no response"),
        ([{"id": 2, "response": None}], TRUTHS, "response is null"),
        (RIGHT, [{"id": 2, "type": "relations", "truth": "no"}], "record 0 (id 2): type is 'relations'"),
        (RIGHT, [{"id": 2, "type": "relation", "truth": "maybe"}], "record 0 (id 2): truth is 'maybe'"),
        (RIGHT, [*TRUTHS, TRUTHS[1]], "annotations.json, record 5 (id 2): the id 2 stands there twice"),
        (RIGHT, [{"id": 2, "answer": "no"}], "record 0 (id 2): it has no type"),
    ],
)
def test_broken_files(answers: object, truths: object, says: str, tmp_path: Path, capsys: Capture) -> None:
    assert says.format(tmp_path) in refusal(capsys, *arguments(tmp_path, answers, truths))
    assert not (tmp_path / "scores.json").exists()


def test_queries_of_another_part_are_refused(tmp_path: Path, capsys: Capture) -> None:
    shown = refusal(capsys, *arguments(tmp_path, RIGHT, TRUTHS, QUERIES[:3]))
    assert "record 2 (id 4)" in shown
    assert "questions.json has no question 4" in shown


def test_ambers_answers_of_a_run(tmp_path: Path) -> None:
    lines = [{"id": str(a["id"]), "prediction": a["response"], "references": ["-"]} for a in RIGHT]
    assert scored(tmp_path, lines)["overall"] == scored(tmp_path, RIGHT)["overall"] == 75.0
