"""Tests of `check`: a line for each record that cannot be used, a JSON report, an exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.refusals import edited, refusal, run_dir, to_stderr
from vlm_lit.cli import main

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def broken(config: Config, small: Path, tmp_path: Path) -> Path:
    """A config whose training data have three bad records, of two kinds, among twenty."""
    rows = json.loads((small / "train.json").read_text())
    rows[3]["image"] = rows[12]["image"] = "images/gone.png"
    rows[15]["conversations"][1]["value"] = ""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(small / "images")
    (tmp_path / "data/train.json").write_text(json.dumps(rows))
    return edited(config(), {"data.init_args.train.path": str(tmp_path / "data/train.json")})


def checked(capsys: Capture, config: Path, *more: str) -> tuple[int, list[str], str]:
    """The exit status, the lines on standard output, and what was said beside them."""
    to_stderr()
    capsys.readouterr()
    status = main(["check", "--config", str(config), *more])
    shown = capsys.readouterr()
    return status, shown.out.splitlines(), shown.err


def test_each_bad_record_has_a_line_with_its_reason(broken: Path, capsys: Capture) -> None:
    status, lines, said = checked(capsys, broken)
    assert status == 1
    assert [line.split("\t")[:2] for line in lines] == [
        ["train", "image.missing"],
        ["train", "image.missing"],
        ["train", "conversation.blank_answer"],
    ]
    assert "record 12 (id 'train12'): image 1 of 1" in lines[1]
    assert "train: 3 of 20 records cannot be used: conversation.blank_answer (1), image.missing (2)." in said
    assert "val: all 6 records can be used." in said
    assert not run_dir(broken).exists()


def test_the_report_holds_them_all(broken: Path, capsys: Capture, tmp_path: Path) -> None:
    assert checked(capsys, broken, "--split", "train", "--output", str(tmp_path / "report.json"))[0] == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == {"train"}
    assert (report["train"]["records"], report["train"]["bad"]) == (20, 3)
    assert report["train"]["codes"] == {"conversation.blank_answer": 1, "image.missing": 2}
    assert [(one["index"], one["record"]) for one in report["train"]["bad_records"]] == [
        (3, "3 (id 'train3')"),
        (12, "12 (id 'train12')"),
        (15, "15 (id 'train15')"),
    ]


def test_good_data_exit_with_nought(config: Config, capsys: Capture) -> None:
    status, lines, said = checked(capsys, config(), "--split", "train", "--split", "val")
    assert (status, lines) == (0, [])
    assert "train: all 20 records can be used." in said
    assert "test: " not in said


def test_what_cannot_be_checked_is_refused(config: Config, capsys: Capture) -> None:
    path = str(config())
    assert "set data.init_args.predict" in refusal(capsys, "check", "--config", path, "--split", "predict")
    streamed = ("--data.init_args.train.streaming", "true")
    assert "data.train is streamed" in refusal(capsys, "check", "--config", path, *streamed)
    assert "cannot be written" in refusal(capsys, "check", "--config", path, "--output", f"{path}/report.json")
