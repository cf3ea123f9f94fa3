"""Tests of the server file script: it writes the file, or says in one sentence why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from server_file import main

from tests.support.run_files import row, write_run


def arguments(folder: Path, output: Path) -> list[str]:
    return ["--format", "vqa_v2", "--predictions", str(folder / "predictions.jsonl"), "--output", str(output)]


def test_a_runs_answers_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [row("12", 1.0), row("7", 0.0)])
    main(arguments(run, tmp_path / "results.json"))
    answers = [{"question_id": 12, "answer": "red"}, {"question_id": 7, "answer": "blue"}]
    assert json.loads((tmp_path / "results.json").read_text()) == answers
    assert capsys.readouterr().out.startswith("2 answers written to ")


def test_two_runs_are_put_together(tmp_path: Path) -> None:
    chosen = write_run(tmp_path / "chosen", [row("a", 1.0, prediction="B", choices=["red", "blue"])])
    direct = write_run(tmp_path / "direct", [row("a", 1.0)])
    files = [str(run / "predictions.jsonl") for run in (chosen, direct)]
    main(["--format", "aokvqa", "--predictions", *files, "--output", str(tmp_path / "results.json")])
    written = {"a": {"multiple_choice": "blue", "direct_answer": "red"}}
    assert json.loads((tmp_path / "results.json").read_text()) == written


def test_what_cannot_be_handed_in_is_said_and_nothing_written(tmp_path: Path) -> None:
    run, output = write_run(tmp_path / "run", [row("q7", 1.0)]), tmp_path / "results.json"
    with pytest.raises(SystemExit, match=r"error: The id 'q7' is not a whole number"):
        main(arguments(run, output))
    assert not output.exists()
    with pytest.raises(SystemExit, match=r"error: .*absent.*cannot be read"):
        main(arguments(tmp_path / "absent", output))
    run = write_run(tmp_path / "run", [row("7", 1.0)])
    with pytest.raises(SystemExit, match="cannot be written"):
        main(arguments(run, tmp_path / "no folder" / "results.json"))
