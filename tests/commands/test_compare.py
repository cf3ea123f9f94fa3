"""Tests of `compare` as typed: five files and a table, or one sentence about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.refusals import refusal
from tests.support.run_files import row, rows, write_run, write_scores
from vlm_lit.cli import main

FILES = ["comparison.csv", "comparison.html", "comparison.json", "comparison.md", "comparison.tex"]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    base = write_run(tmp_path / "base", rows([0, 0, 0, 1, 0, 0, 0, 1]))
    tuned = write_run(tmp_path / "tuned", rows([1, 0, 1, 1, 1, 1, 0, 1]))
    return [str(base), str(tuned)]


def test_files_and_table(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "out"
    assert main(["compare", *runs, "--output", str(out)]) == 0
    shown = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert "base - tuned" in shown
    assert shown.endswith(f"Page: {out / 'comparison.html'}\n")
    (pair,) = json.loads((out / "comparison.json").read_text())["pairs"]
    assert (pair["a"], pair["b"], pair["difference"]["mean"]) == ("base", "tuned", -0.5)


def test_options_may_stand_anywhere(runs: list[str], tmp_path: Path) -> None:
    out, third = tmp_path / "out", str(write_scores(tmp_path / "x" / "scores.json", {f"q{i}": 1.0 for i in range(8)}))
    options = ["--names", "a, b,c", "--se", "miller", "--resamples", "20000", "--seed", "3", "--examples", "2"]
    assert main(["compare", runs[0], "--output", str(out), runs[1], *options, third]) == 0
    pairs = json.loads((out / "comparison.json").read_text())["pairs"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (pairs[0]["bootstrap"]["resamples"], pairs[0]["bootstrap"]["seed"]) == (20_000, 3)
    assert "2 of 8 items, evenly spaced" in (out / "comparison.html").read_text()
    assert "Miller 2024, equation 4" in (out / "comparison.html").read_text()


def test_an_earlier_comparison_is_replaced_and_nothing_else(runs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    (out / "comparison.json").write_text("old")
    assert main(["compare", *runs, "--output", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [*FILES, "mine"]
    assert json.loads((out / "comparison.json").read_text())["pairs"]


def test_identical_runs(runs: list[str], tmp_path: Path) -> None:
    assert main(["compare", runs[0], runs[0], "--output", str(tmp_path / "out")]) == 0
    (pair,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["pairs"]
    assert (pair["a"], pair["b"]) == ("base (1)", "base (2)")
    assert pair["difference"] == {
        "mean": 0.0,
        "se": 0.0,
        "se_clustered": 0.0,
        "ci95": [0.0, 0.0],
        "level": 0.95,
        "p": 1.0,
    }


def test_what_all_have_is_compared_on_request(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = str(write_run(tmp_path / "short", rows([1, 1, 0, 1])))
    assert "with --intersect" in refusal(capsys, "compare", runs[0], short, "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert main(["compare", runs[0], short, "--intersect", "--output", str(tmp_path / "out")]) == 0
    assert "left out: 4; items that remain: 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--outpt", "x"], "--outpt x. Did you mean --output?"),
        ([], "--output must be given"),
        (["--output", "x", "--examples", "0"], "--examples: 0 is not a whole number from 1 up"),
        (["--output", "x", "--resamples", "100"], "100 is not a whole number from 10,000 up"),
        (["--output", "x", "--se", "plain"], "choose from"),
        (["--output", "x", "--names", "a"], "--names gives 1 names for 2 systems"),
    ],
)
def test_options_are_refused_in_one_sentence(
    options: list[str],
    says: str,
    runs: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(capsys, "compare", *runs, *options)
    assert not Path("x").exists()


def test_one_run_is_too_few(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "two RUNs or more must be given, got 1" in refusal(capsys, "compare", runs[0], "--output", "x")


def test_what_cannot_be_compared_is_refused(
    runs: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--output", str(tmp_path / "out")]
    lines = rows([1] * 8)
    others = write_run(tmp_path / "others", [*lines[:7], {**lines[7], "references": ["blue"]}])
    repeated = write_run(tmp_path / "repeated", [row("q0", 1), row("q0", 1)])
    broken = write_run(tmp_path / "broken", lines)
    with (broken / "predictions.jsonl").open("a") as file:
        file.write('{"id": ')
    wrong_type = write_run(tmp_path / "wrong_type", [*lines[:7], {**lines[7], "prediction": 5}])
    no_id = write_run(tmp_path / "no_id", [*lines[:7], {k: v for k, v in lines[7].items() if k != "id"}])
    latin, scores = write_run(tmp_path / "latin", lines), write_scores(tmp_path / "latin.json", {"q0": 1.0})
    for written in (latin / "predictions.jsonl", scores):
        written.write_bytes(written.read_bytes().replace(b'"q0"', b'"\xe90"', 1))
    for other, says in (
        (write_run(tmp_path / "short", lines[:7]), "8 and 7 items, 1 ids in one of them only (such as 'q7')"),
        (write_run(tmp_path / "long", rows([1] * 9)), "8 and 9 items, 1 ids in one of them only (such as 'q8')"),
        (wrong_type, "line 8: prediction = 5 cannot be"),
        (no_id, "line 8: needs the fields id, "),
        (latin, "line 1: byte 8 (0xe9) is not UTF-8"),
        (scores, "(0xe9) is not UTF-8. Score again."),
        (others, "judged 'q7' by different references"),
        (repeated, "line 2: the id 'q0' already stands on line 1"),
        (broken, "line 9: the text ends too early"),
        (tmp_path, "holds neither predictions.jsonl nor"),
        (tmp_path / "gone", "is not a run directory"),
    ):
        assert says in refusal(capsys, "compare", runs[0], str(other), *out)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(
    runs: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "file cannot be written" in refusal(capsys, "compare", *runs, "--output", str(tmp_path / "file"))
