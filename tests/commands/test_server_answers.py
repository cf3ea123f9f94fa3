"""Tests of answers handed in: `score --server` writes the file, or says in one sentence why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.refusals import refusal
from tests.support.run_files import row, write_run
from vlm_lit.cli import main


def arguments(output: Path, *runs: Path, server: str = "vqa_v2") -> list[str]:
    records = [str(run / "predictions.jsonl") for run in runs]
    return ["score", "--server", server, "--records", *records, "--output", str(output)]


def test_a_runs_answers_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [row("12", 1.0), row("7", 0.0)])
    assert main(arguments(tmp_path / "results.json", run)) == 0
    answers = [{"question_id": 12, "answer": "red"}, {"question_id": 7, "answer": "blue"}]
    assert json.loads((tmp_path / "results.json").read_text()) == answers
    assert capsys.readouterr().out.startswith("2 answers written to ")


def test_two_runs_are_put_together(tmp_path: Path) -> None:
    chosen = write_run(tmp_path / "chosen", [row("a", 1.0, prediction="B", choices=["red", "blue"])])
    direct = write_run(tmp_path / "direct", [row("a", 1.0)])
    assert main(arguments(tmp_path / "results.json", chosen, direct, server="aokvqa")) == 0
    written = {"a": {"multiple_choice": "blue", "direct_answer": "red"}}
    assert json.loads((tmp_path / "results.json").read_text()) == written


def test_what_cannot_be_handed_in_is_said_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = write_run(tmp_path / "run", [row("q7", 1.0)]), tmp_path / "results.json"
    assert "The id 'q7' is not a whole number" in refusal(capsys, *arguments(output, run))
    assert not output.exists()
    assert "cannot be read" in refusal(capsys, *arguments(output, tmp_path / "absent"))
    run = write_run(tmp_path / "run", [row("7", 1.0)])
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal(capsys, *arguments(tmp_path / "file" / "results.json", run))
    there = run / "predictions.jsonl"
    before = there.read_bytes()
    assert "would overwrite" in refusal(capsys, *arguments(there, run))
    assert there.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--metric", "anls"], "--server judges nothing: it takes --records and --output, and not --metric."),
        (["--predictions", "p"], "and not --predictions."),
        (["--options.normalize", "always"], "and not --options.normalize."),
    ],
)
def test_options_of_judging_do_not_go_with_it(
    more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [row("7", 1.0)])
    assert says in refusal(capsys, *arguments(tmp_path / "o.json", run), *more)
    assert not (tmp_path / "o.json").exists()


def test_a_judge_that_fills_in_a_template_is_given_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [row("a", 1.0), row("b", 0.0)])
    record = {"image_src": "-", "image_content": ["Lamp"], "question": "?", "gt_answer": "Red."}
    template = tmp_path / "response_template.json"
    template.write_text(json.dumps([{**record, "image_id": name} for name in ("b", "a")]))
    given = arguments(tmp_path / "responses.json", run, server="mmhal")
    assert main([*given, "--annotations", str(template)]) == 0
    written = json.loads((tmp_path / "responses.json").read_text())
    assert [(entry["image_id"], entry["model_answer"]) for entry in written] == [("b", "blue"), ("a", "red")]
    capsys.readouterr()
    (tmp_path / "responses.json").unlink()
    assert "fills in the benchmark's own file: give that one by --annotations" in refusal(capsys, *given)
    others = arguments(tmp_path / "responses.json", run)
    assert "and not --annotations." in refusal(capsys, *others, "--annotations", str(template))
    assert not (tmp_path / "responses.json").exists()


def test_a_server_needs_records_and_a_known_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--records must be given." in refusal(capsys, "score", "--server", "gqa", "--output", "o.json")
    assert "invalid choice: 'coco'" in refusal(capsys, "score", "--server", "coco", "--output", "o", "--records", "r")
