"""Tests of `verify` with two processes: equalities 5 and 10 on the user's run, and runs for which they do not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_config, small_data
from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.pairs import preference_config, write_folder
from vlm_lit.cli import main

Row = dict[str, Any]
SOUND = ("sharded", "frozen-sharded")


def verified(path: Path, *more: str) -> tuple[int, dict[str, Row]]:
    out = path.parent / "verified.json"
    words = ["verify", "--config", str(path), "--conversations", "5", "--data.init_args.val=null", *more]
    status = main([*words, "--format", "json", "--output", str(out)])
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert list(rows)[-2:] == list(SOUND)
    return status, {name: rows[name] for name in SOUND}


@pytest.fixture
def supervised(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    small_data.write_conversations(tmp_path, 8, turns=1, prefix="train")

    def config(kind: str | None = None, **model: Any) -> Path:
        path = small_config.write(tmp_path, folders["llava"], tmp_path, data={"val": None}, model=model)
        if kind is not None:
            path.write_text(path.read_text().replace("vlm_lit.training.supervised.SupervisedModule", kind))
        return path

    return config


def test_two_processes_are_one(supervised: Callable[..., Path]) -> None:
    status, found = verified(supervised())
    assert status == 0
    assert {row["verdict"] for row in found.values()} == {"equal"}
    for row in found.values():
        assert 0.0 <= row["loss"] < 1e-6
        assert 0.0 < row["gradient"] < 1e-6  # of sums in another order: it is not the same computation twice
        assert row["note"] == "5 items, 2 processes"


@pytest.mark.slow
def test_pairs_and_questions_with_answers_to_choose_from(folders: dict[str, Path], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    write_folder(pairs, "pairs")
    status, found = verified(preference_config(pairs, folders["llava"], pairs))
    assert (status, [row["verdict"] for row in found.values()]) == (0, ["equal", "equal"])
    classes = tmp_path / "classes"
    classes.mkdir()
    write_questions(classes, "train", 8)
    status, found = verified(write_config(classes, checkpoint(classes / "vilt"), classes))
    assert (status, found["sharded"]["verdict"], found["frozen-sharded"]["verdict"]) == (0, "equal", "refused")
    assert "language_model.training is full" in found["frozen-sharded"]["note"]


@pytest.mark.slow
def test_what_is_wrong_on_a_rank_is_found(supervised: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "tests")
    status, found = verified(supervised("tests.support.rank_modules.Heavier"))
    assert status == 1
    assert {row["verdict"] for row in found.values()} == {"DIFFERENT"}
    assert found["sharded"]["gradient"] > 1e-4


@pytest.mark.slow
def test_a_process_that_fails_is_told_with_its_last_words(
    supervised: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "tests")
    status, found = verified(supervised("tests.support.rank_modules.Fallen"))
    assert status == 1
    for row in found.values():
        assert row["verdict"] == "DIFFERENT"
        assert "not checked: process" in row["note"]  # 1, or 0 where it has met its end before anybody looked
        assert "ended with status 1: " in row["note"]
        assert "Error" in row["note"]


def test_one_item_is_not_enough(supervised: Callable[..., Path]) -> None:
    path = supervised()
    status, found = verified(path, "--data.init_args.train.limit=1")
    assert status == 0
    assert {row["note"] for row in found.values()} == {"not checked: it takes two items"}
