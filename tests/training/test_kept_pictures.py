"""Tests of kept pictures: a run whose images lie inside its table keeps copies to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import vlm_lit.training.kept_pictures as kept
from tests.support import family_cases as cases
from tests.support import small_tables
from tests.support.runs import run_dir, verb
from vlm_lit.schema import Prediction


def prediction(name: str) -> Prediction:
    return Prediction(
        id=name, image=None, image_id=None, question="q", references=(), prediction="a", score=None, groups={}
    )


def test_a_run_on_a_table_names_copies_of_its_pictures(config: Callable[..., Path], tmp_path: Path) -> None:
    charts = {"path": str(small_tables.write_charts(tmp_path, 4)), "columns": {"question": "query", "answers": "label"}}
    path = config(data={"test": charts})
    assert verb("test", path) == 0
    lines = [json.loads(line) for line in (run_dir(path) / "predictions.jsonl").read_text().splitlines()]
    assert len({line["image"] for line in lines}) == 4
    for line in lines:
        assert line["image"].startswith("pictures/")
        with Image.open(run_dir(path) / line["image"]) as copy:
            assert copy.size == (40, 32)
        assert line["image_id"] in line["image"]  # questions about one picture are one cluster


def test_one_copy_a_picture_and_no_more_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 1)
    talks = [*cases.about_one_picture(1), *(replace(t, id=t.id + "b") for t in cases.about_one_picture(1, seed=4))]
    found = kept.with_pictures([prediction(talk.id) for talk in talks], talks, tmp_path)
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert [p.image is not None for p in found] == [True] * 4 + [False] * 4


def test_pictures_that_are_files_stay_where_they_are(tmp_path: Path) -> None:
    talk = cases.conversation(0, 1)
    found = kept.with_pictures([replace(prediction(talk.id), image="a.png")], [talk], tmp_path)
    assert found[0].image == "a.png"
    assert not (tmp_path / "pictures").exists()
