"""Tests of reading `predictions.jsonl`: whole, older ones too, a broken one refused by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.run_files import Row, row, write_run
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.run_files.predictions import read_predictions
from vlm_lit.training.callbacks.run_directory import write_predictions


def written(folder: Path, *lines: Row) -> Path:
    return write_run(folder, lines) / "predictions.jsonl"


def test_choices_are_there_only_where_there_are_any(tmp_path: Path) -> None:
    path = written(tmp_path, row("a", 1.0, choices=["red", "blue"]), row("b", 0.0))
    found = read_predictions(path)
    assert [p.choices for p in found] == [("red", "blue"), ()]
    before = path.read_text()
    write_predictions(path, found)
    assert path.read_text() == before


def test_a_confidence_is_there_only_where_an_answer_was_chosen_from_a_list(tmp_path: Path) -> None:
    path = written(tmp_path, row("a", 1.0, confidence=0.0), row("b", 0.0, confidence=0.75), row("c", 0.0))
    found = read_predictions(path)
    assert [p.confidence for p in found] == [0.0, 0.75, None]
    before = path.read_text()
    write_predictions(path, found)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({**row("b"), "choices": "red"}, "line 2: choices = 'red' cannot be"),
        ({**row("b"), "choices": [1]}, r"line 2: choices = \[1\] cannot be"),
        ({**row("b"), "choices": None}, "line 2: choices = None cannot be"),
        ({**row("b"), "id": 7}, "line 2: id = 7 cannot be"),
        ({**row("b"), "prediction": None}, "line 2: prediction = None cannot be"),
        ({**row("b"), "confidence": 1.5}, r"line 2: confidence = 1\.5 cannot be"),
        ({**row("b"), "score": 1.5}, r"line 2: score = 1\.5 cannot be"),
        ({"prediction": "red"}, "line 2: needs the fields id, image, .*groups; found prediction"),
        ({**row("b"), "extra": 1}, "line 2: needs the fields .*; found id, .*, extra"),
        (["b"], "line 2: needs the fields .*; found list"),
        (row("a"), "line 2: the id 'a' already stands on line 1"),
    ],
)
def test_a_broken_line_is_named(line: object, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, row("a"))
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(VlmLitError, match=says):
        read_predictions(path)


def test_bytes_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"), row("b"))
    path.write_bytes(path.read_bytes().replace(b'"id": "b"', b'"id": "\xff"'))
    with pytest.raises(VlmLitError, match=r"predictions\.jsonl, line 2: byte 8 \(0xff\) is not UTF-8"):
        read_predictions(path)
