"""Tests of `retention`: a run's model and its base asked the same, and what is said of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.refusals import refusal, to_stderr
from tests.support.runs import run_dir
from vlm_lit.cli import main
from vlm_lit.training.chat_session import ChatSession
from vlm_lit.training.opened_model import open_model

Capture = pytest.CaptureFixture[str]
Config = Callable[..., Path]


@pytest.fixture
def tuned(config: Config) -> Path:
    """The directory of a run that was trained and nothing else."""
    path = config(trainer={"limit_val_batches": 0, "max_steps": 2})
    assert main(["fit", "--config", str(path)]) == 0
    return run_dir(path)


def overlay(folder: Path, questions: Path) -> Path:
    """A benchmark of a user's own."""
    path = folder / "mine.yaml"
    settings = {
        "data": {"init_args": {"test": {"path": str(questions)}, "system": "Be brief."}},
        "model": {"init_args": {"max_new_tokens": 2, "metrics": [{"name": "exact_match"}]}},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_both_models_are_asked_and_compared(tuned: Path, small: Path, tmp_path: Path, capsys: Capture) -> None:
    to_stderr()
    before = (tuned / "config.yaml").read_bytes()
    output = tmp_path / "out"
    benchmarks = ["--config", str(overlay(tmp_path, small / "val.json")), "--config", "workbench"]
    # So few images decide nothing, which the status says.
    assert main(["retention", str(tuned), *benchmarks, "--limit", "5", "--output", str(output)]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("Whether the tuned model lost more than 2.0 points is undecided on mine, workbench.")
    found = json.loads((output / "retention.json").read_text())
    assert [(one["name"], one["questions"]) for one in found["benchmarks"]] == [("mine", 5), ("workbench", 5)]
    assert "undecided" in (output / "retention.html").read_text()
    for name in ("mine", "workbench"):
        weights = {
            side: json.loads((output / name / side / "results.json").read_text())["weights"]
            for side in ("tuned", "base")
        }
        assert weights["tuned"]["checkpoint"].endswith("step-000002.ckpt")
        assert set(weights["base"]) == {"base"}
        settings = yaml.safe_load((output / name / "base" / "config.test.yaml").read_text())
        assert settings["data"]["init_args"]["system"] == {"mine": "Be brief.", "workbench": None}[name]
    assert (tuned / "config.yaml").read_bytes() == before


@pytest.mark.slow
def test_the_base_is_without_a_start_that_changes_it(config: Config, small: Path, tmp_path: Path) -> None:
    path = config(trainer={"limit_val_batches": 0, "max_steps": 1}, model={"lora": {"start": "loftq", "rank": 8}})
    assert main(["fit", "--config", str(path)]) == 0
    asked = ["--config", str(overlay(tmp_path, small / "val.json")), "--output", str(tmp_path / "out")]
    main(["retention", str(run_dir(path)), *asked])
    opened = open_model(str(run_dir(path)))
    for line in (tmp_path / "out" / "mine" / "base" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        session = ChatSession(opened, compare=True, images=[Path(row["image"])], system="Be brief.", max_new_tokens=2)
        tuned, base = session.ask(row["question"])
        assert (tuned.by, base.by, base.reply.text) == ("tuned", "base", row["prediction"])
    settings = yaml.safe_load((tmp_path / "out" / "mine" / "base" / "config.test.yaml").read_text())
    assert settings["model"]["init_args"]["lora"]["start"] == "random"


@pytest.mark.slow
def test_a_runs_list_of_answers_is_not_a_benchmarks(config: Config, small: Path, tmp_path: Path) -> None:
    path = config(trainer={"limit_val_batches": 0, "max_steps": 1}, model={"answer_from": ["red", "blue"]})
    assert main(["fit", "--config", str(path)]) == 0
    (tmp_path / "own").mkdir()
    own = overlay(tmp_path / "own", small / "val.json").rename(tmp_path / "own" / "own.yaml")
    settings = yaml.safe_load(own.read_text())
    settings["model"]["init_args"]["answer_from"] = ["yes", "no"]
    own.write_text(yaml.safe_dump(settings))
    asked = ["--config", str(overlay(tmp_path, small / "val.json")), "--config", str(own), "--config", "workbench"]
    main(["retention", str(run_dir(path)), *asked, "--limit", "5", "--output", str(tmp_path / "out")])
    for side in ("tuned", "base"):
        for name in ("mine", "workbench"):
            said = (tmp_path / "out" / name / side / "predictions.jsonl").read_text().splitlines()
            assert not {json.loads(line)["prediction"] for line in said} & {"red", "blue"}
            assert all("confidence" not in json.loads(line) for line in said)
        said = (tmp_path / "out" / "own" / side / "predictions.jsonl").read_text().splitlines()
        assert {json.loads(line)["prediction"] for line in said} <= {"yes", "no"}


def test_what_cannot_be_asked_is_refused_or_where_it_was_not_named_left_out(
    tuned: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "RUN must be given" in refusal(capsys, "retention", "--limit", "5")
    assert "holds no config.yaml" in refusal(capsys, "retention", str(tmp_path / "none"))
    whole = ["retention", str(tuned), "--config", "workbench"]
    assert "1 would allow any loss; a point is 0.01" in refusal(capsys, *whole, "--max_loss", "1")
    (tmp_path / "sub").mkdir()
    same = [overlay(folder, tmp_path / "absent.json") for folder in (tmp_path, tmp_path / "sub")]
    words = [word for path in same for word in ("--config", str(path))]
    assert "two benchmarks that are called mine" in refusal(capsys, "retention", str(tuned), *words)
    absent = overlay(tmp_path, tmp_path / "absent.json")
    assert "absent.json" in refusal(capsys, "retention", str(tuned), "--config", str(absent))
    desk = tmp_path / "desk"
    (desk / "configs" / "benchmark").mkdir(parents=True)
    absent.rename(desk / "configs" / "benchmark" / "absent.yaml")
    monkeypatch.chdir(desk)
    to_stderr()
    assert main(["retention", str(tuned), "--limit", "5"]) == 3
    found = json.loads((tuned / "retention" / "retention.json").read_text())
    assert [one["name"] for one in found["benchmarks"]] == ["workbench"]
    assert [one["name"] for one in found["missing"]] == ["absent"]
    assert "absent.json" in found["missing"][0]["why"]
