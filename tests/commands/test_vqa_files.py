"""Tests of VQA's result, annotation and question files: broken or different ones are refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import refusal
from tests.support.vqa_files import write_vqa

Capture = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]


@pytest.fixture
def vqa(tmp_path: Path) -> list[str]:
    """The arguments that name a VQA result file, its annotations and its questions."""
    return write_vqa(tmp_path)


def without_first(rows: Rows) -> None:
    del rows[0]


def one_more(rows: Rows) -> None:
    rows.append({"question_id": 99, "answer": "x"})


def repeated(rows: Rows) -> None:
    rows.append(dict(rows[0]))


def wrong_type(rows: Rows) -> None:
    rows[1]["answer"] = None


def without_id(rows: Rows) -> None:
    del rows[1]["question_id"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without_first, "record 9: 1 of the 3 questions in "),
        (one_more, "record 99: 1 question ids do not stand in "),
        (repeated, "record 3 (question_id 9): the question_id 9 stands there twice."),
        (wrong_type, "record 1 (question_id 8): answer is null. It must be text."),
        (without_id, "record 1: it has no question_id; there is answer."),
        (list.clear, ": the list is empty."),
    ],
)
def test_refused_vqa_predictions(
    change: Callable[[Rows], None], problem: str, vqa: list[str], capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    error = refusal(capsys, "score", "--metric", "vqa_v2", "--output", str(tmp_path / "o.json"), *vqa)
    assert error.startswith(f"error: {path}")
    assert problem in error


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"question_id": 8', '"question_id": 9', "record 2 (question_id 9): the id 9 stands there twice."),
        ('"answer": "red"', '"answer": null', "record 2 (question_id 9): answers is [null, "),
        ('"answers": [{"answer": "yes"', '"answer": [{"answer": "yes"', "it has no answers; there is question_id, "),
        ('"annotations"', '"annotation"', "these are no annotations of VQA, TextVQA, DocVQA, VizWiz, GQA or A-OKVQA. "),
        ('"info": {}', '"info": {}, "info": {}', "the key 'info' stands twice in one object."),
        ('"info": {}', '"info": NaN', "NaN is not JSON."),
        ('"info": {}', '"info": {', "(line 1, column "),
    ],
)
def test_refused_vqa_annotations(
    old: str, new: str, problem: str, vqa: list[str], capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "annotations.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    error = refusal(capsys, "score", "--metric", "vqa_v2", "--output", str(tmp_path / "o.json"), *vqa)
    assert error.startswith(f"error: {path}")
    assert problem in error


def test_questions_of_another_split(vqa: list[str], capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(path.read_text().replace('"question_id": 8', '"question_id": 88'))
    error = refusal(capsys, "score", "--metric", "vqa_v2", "--output", str(tmp_path / "o.json"), *vqa)
    assert error.startswith(f"error: {path}, record 8: 1 of the 3 questions in ")
