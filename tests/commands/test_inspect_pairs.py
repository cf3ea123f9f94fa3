"""Tests of `inspect` on pairs: what is taught on both sides, how rows are shared, and where the reference is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, verb

Config = Callable[..., Path]
MDPO = [{"name": "sigmoid"}, {"name": "image_sigmoid"}, {"name": "anchor"}]


@pytest.fixture
def preferring(tiny_llava: Path, tmp_path: Path) -> Config:
    """Writes a config of a preference run over 20 pairs, two about each picture."""
    write_folder(tmp_path / "data", "pairs")
    return partial(preference_config, tmp_path, tiny_llava, tmp_path / "data")


def inspected(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert verb("inspect", path, "--format", "json", "--conversations", "2", *more) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_both_sides_are_shown_as_they_are_learned(preferring: Config, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(preferring(), capsys)
    said = {view["id"]: view["supervised"] for view in found["conversations"]}
    assert said == {
        "train0/chosen": ["red"],
        "train0/rejected": ["blue and green or not"],
        "train1/chosen": ["blue and green"],
        "train1/rejected": ["no or not"],
    }
    assert all(view["end_of_turn"] == [True] for view in found["conversations"])
    facts = found["pairs"]
    assert (facts["total"], facts["sharing"], facts["apart"], facts["shown"], facts["rows"]) == (20, 20, None, 2, 1)
    assert facts["answers"]["chosen_median_tokens"] < facts["answers"]["rejected_median_tokens"]
    assert (facts["losses"], facts["compares"], facts["store"], facts["corrupt"]) == (
        ["1 sigmoid (beta 0.1)"], True, None, None,
    )  # fmt: skip
    assert found["gradient_flow"] == {"unmoved_trainable": [], "moved_frozen": []}
    apart = inspected(preferring(data={"packing": False}), capsys)["pairs"]
    assert (apart["apart"], apart["rows"]) == ("data.packing is false", 4)


def test_the_third_answer_and_the_stored_reference_are_told(
    preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "store")
    path = preferring(model={"losses": MDPO, "reference_store": kept}, data={"corrupt": "crop", "val": None})
    found = inspected(path, capsys)
    assert [view["id"].partition("/")[2] for view in found["conversations"]] == ["chosen", "rejected", "corrupted"] * 2
    assert (found["pairs"]["corrupt"], found["pairs"]["rows"]) == ("crop", 3)
    assert (found["pairs"]["store"], found["pairs"]["stored"]) == (kept, 0)
    fit(path)
    capsys.readouterr()
    assert inspected(path, capsys)["pairs"]["stored"] == 20
    assert inspected(path, capsys, "--seed_everything=9")["pairs"]["stored"] == 0


def test_text_and_page_say_the_same(preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = preferring(model={"losses": [{"name": "simpo", "beta": 2.0}, {"name": "sft", "weight": 0.1}]})
    assert verb("inspect", path) == 0
    text = capsys.readouterr().out
    assert "optimizer steps of 8 pairs" in text
    assert "20 pairs, 20 of which show a picture that another shows as well" in text
    assert "losses: 1 simpo (beta 2) + 0.1 sft" in text
    assert "reference: none is needed" in text
    assert "measured on all 20 pairs" in text
    page = tmp_path / "page.html"
    assert verb("inspect", path, "--format", "html", "--output", str(page)) == 0
    shown = page.read_text()
    assert "20 pairs, 20 of which show" in shown
    assert "train0/rejected" in shown


def test_a_pair_that_is_too_long_is_left_out_whole(
    preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((tmp_path / "data" / "train.json").read_text())
    rows[0]["rejected"] = "a word " * 30
    (tmp_path / "data" / "train.json").write_text(json.dumps(rows))
    found = inspected(preferring(data={"max_length": 40, "over_length": "drop"}), capsys)
    assert [one["id"] for one in found["dropped"]] == ["train0/rejected"]
    assert {view["id"].partition("/")[0] for view in found["conversations"]} == {"train1", "train2"}
    assert verb("inspect", preferring(data={"max_length": 40})) == 2
    assert "the conversation has" in capsys.readouterr().err
