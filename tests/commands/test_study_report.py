"""Tests of `study report`: files where they belong, a table on the terminal, refusals in one sentence."""

import json
from pathlib import Path

import pytest

from tests.support.study_runs import falling, open_study, write_cell, write_study
from vlm_lit.commands.study_report import run
from vlm_lit.errors import VlmLitError

FILES = {f"report.{kind}" for kind in ("json", "csv", "md", "tex", "html")}
PLOTS = {f"{name}.{kind}" for name in ("cost", "learning_curves") for kind in ("png", "svg")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    study = open_study(tmp_path, {"way": ["a", "b"]})
    for level, right in (("a", (10, 11, 12)), ("b", (34, 35, 36))):
        for seed, n in enumerate(right):
            loss = {"train/loss": falling(11, to=1.0)}
            write_cell(study, {"way": level}, seed, [1.0] * n + [0.0] * (40 - n), events=loss, per_image=1)
    return study.file


def test_the_report_lies_in_the_studys_folder(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study report", [str(file)]) == 0
    shown, folder = capsys.readouterr().out, tmp_path / "study" / "report"
    assert {path.name for path in folder.iterdir()} == FILES | PLOTS
    assert "* way=b" in shown
    assert "way=b is best with 87.5 %" in shown
    assert shown.endswith(f"Page: {folder / 'report.html'}\n")


def test_an_earlier_report_is_replaced_and_nothing_else(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    (out / "report.json").write_text("old")
    assert run("study report", ["--output", str(out), "--loss", "1.5", str(file)]) == 0
    assert {path.name for path in out.iterdir()} == FILES | PLOTS | {"mine"}
    found = json.loads((out / "report.json").read_text())
    assert (found["loss"], found["settings"][0]["convergence"]["steps"]) == (1.5, 6.0)
    assert not (tmp_path / "study" / "report").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--loss", "low"], "low is not a loss, a number above 0"),
        (["--loss", "nan"], "nan is not a loss"),
        (["--loss", "-1"], "is not a loss|expected one argument"),
        (["--outptu", "x"], "Did you mean --output"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options: list[str], says: str, file: Path) -> None:
    with pytest.raises(VlmLitError, match=says):
        run("study report", [str(file), *options])


def test_a_missing_file_and_an_unstarted_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match=r"gone.yaml: the study file cannot be read"):
        run("study report", [str(tmp_path / "gone.yaml")])
    file = write_study(tmp_path, {"way": ["a", "b"]})
    with pytest.raises(VlmLitError, match="no run is finished"):
        run("study report", [str(file)])
    assert not (tmp_path / "study").exists()


def test_a_folder_that_cannot_be_written_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(VlmLitError, match="taken cannot be written"):
        run("study report", [str(file), "--output", str(tmp_path / "taken")])


def test_another_metric_of_the_same_runs_can_be_reported(file: Path, tmp_path: Path) -> None:
    # As runs name the groups of a field: field/value, but for the answer types.
    for path in (tmp_path / "study" / "cells").rglob("predictions.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for i, line in enumerate(lines):
            line["groups"]["source"] = "plain" if i < 20 else "team"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        results = json.loads(path.with_name("results.json").read_text())
        results["metrics"]["exact_match/source/plain"] = sum(line["score"] for line in lines[:20]) / 20
        path.with_name("results.json").write_text(json.dumps(results))
    for metric, mean in (("exact_match/source/plain", 0.55), ("exact_match/number", 0.3)):
        assert run("study report", [str(file), "--metric", metric, "--output", str(tmp_path / "other")]) == 0
        report = json.loads((tmp_path / "other" / "report.json").read_text())
        way_a = next(one for one in report["settings"] if one["name"] == "way=a")
        assert way_a["score"]["mean"] == pytest.approx(mean, abs=0.051)
