"""Tests of `inspect` for a classifier: its questions and targets in three forms, and the exit status of a wrong run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.html_page import Page
from vlm_lit.cli import main
from vlm_lit.data.classifier_datamodule import ClassifierDataModule
from vlm_lit.training.classifier import ClassifierModule

Config = Callable[..., Path]
MARKUP = "<b>bold</b> & <script>alert(1)</script>"


@pytest.fixture(scope="module")
def vilt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("vilt"))


@pytest.fixture
def config(vilt_folder: Path, tmp_path: Path) -> Config:
    write_questions(tmp_path, "train", 12)
    return partial(write_config, tmp_path, vilt_folder, tmp_path)


def inspected(capsys: pytest.CaptureFixture[str], path: Path, *more: str, status: int = 0) -> dict[str, Any]:
    """The report as JSON, which has to be all that stands on standard output; `problems` are those on the other."""
    capsys.readouterr()
    assert main(["inspect", "--config", str(path), "--data.init_args.val=null", "--format=json", *more]) == status
    out, err = capsys.readouterr()
    found: dict[str, Any] = json.loads(out)
    return {**found, "problems": [line for line in err.splitlines() if line.startswith("problem: ")]}


def test_the_json_has_exactly_the_promised_shape(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(model={"parts": {"embeddings": {"precision": "fp32", "training": "frozen"}}})
    report = inspected(capsys, path)
    assert list(report) == [
        "parts", "answers", "questions", "untargeted", "cut", "lengths", "gradient_flow", "problems",
    ]  # fmt: skip
    assert [(p["part"], p["trainable"] > 0) for p in report["parts"]] == [
        ("embeddings", False), ("language_model", True), ("head", True),
    ]  # fmt: skip
    assert report["answers"] == 6
    assert report["questions"][1] == {
        "id": "1",
        "tokens": 13,
        "words": ["[CLS]", *["what", "colour", "is", "lamp", "1", "?", "a", "##n", "##d", "the", "tool"], "[SEP]"],
        "left_out": "",
        "targets": {"no": 1.0, "red": 0.6},
        "file_size": [40, 32],
        "size": [80, 64],
        "patches": 20,
    }
    assert [q["id"] for q in report["questions"]] == ["0", "1", "2", "3"]
    assert report["questions"][3]["patches"] == (96 // 16) * (48 // 16)  # in a batch with other shapes
    assert report["lengths"] == {"measured": 12, "min": 8, "median": 13, "max": 19, "most_words": 40}
    assert report["gradient_flow"] == {"unmoved_trainable": [], "moved_frozen": []}
    assert report["problems"] == report["untargeted"] == []
    assert not (path.parent / "run").exists()


def test_words_that_are_cut_are_shown_and_a_problem(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    report = inspected(capsys, config(data={"most_words": 12}), status=1)
    second = report["questions"][1]
    assert second["words"][-3:] == ["##d", "the", "[SEP]"]
    assert second["tokens"] == 12
    assert second["left_out"] == "tool"
    assert report["questions"][0]["left_out"] == ""
    assert len(report["cut"]) == 8
    assert report["cut"]["1"] == 13
    (problem,) = report["problems"]
    assert "8 of 12 measured questions are longer than data.most_words (12)" in problem


def test_a_question_without_a_target_is_a_problem_where_it_is_not_left_out(
    config: Config,
    capsys: pytest.CaptureFixture[str],
    vilt_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_questions(tmp_path, "train", 12, outside=2)
    path = config(data={"vocabulary": {"file": str(vilt_folder / "config.json")}})
    assert inspected(capsys, path)["lengths"]["measured"] == 10
    monkeypatch.setattr(ClassifierDataModule, "_leave_out", lambda *_: None)
    report = inspected(capsys, path, status=1)
    assert report["untargeted"] == ["10", "11"]
    assert [problem.split(":")[1].strip() for problem in report["problems"]] == ["10", "11"]
    assert "no answer to choose from is right" in report["problems"][0]


def test_a_trained_parameter_without_gradient_is_a_problem(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ClassifierModule.adopt

    def with_an_idle_one(self: ClassifierModule, base: Any, family: Any) -> Any:
        model = plain(self, base, family)
        base.vilt.encoder.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
        return model

    monkeypatch.setattr(ClassifierModule, "adopt", with_an_idle_one)
    report = inspected(capsys, config(), status=1)
    assert report["gradient_flow"]["unmoved_trainable"] == ["vilt.encoder.idle"]
    assert "no gradient reaches it" in report["problems"][0]


def test_the_text_names_right_answers_in_brackets(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--config", str(config()), "--data.init_args.val=null"]) == 0
    shown = capsys.readouterr().out
    assert "optimizer steps of 8 questions" in shown
    assert "1: 13 tokens; picture 40 x 32, as the model sees it 80 x 64, 20 patches" in shown
    assert "    [1 no]  [0.6 red]\n" in shown
    assert "every question has a target and all its words" in shown
    assert "\x1b" not in shown
    assert main(["inspect", "--config", str(config(data={"most_words": 12})), "--data.init_args.val=null"]) == 1
    assert "    CUT OFF: tool\n" in capsys.readouterr().out


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(config: Config, tmp_path: Path) -> None:
    rows = json.loads((tmp_path / "train.json").read_text())
    for row in rows[:6]:
        row["answers"] = [MARKUP] * 10
    (tmp_path / "train.json").write_text(json.dumps(rows))
    path = config(data={"vocabulary": {"normalize": "none"}})
    out = tmp_path / "page.html"
    assert main(["inspect", "--config", str(path), "--data.init_args.val=null", "--format=html",
                 f"--output={out}"]) == 0  # fmt: skip
    text = out.read_text()
    assert "<script>" not in text
    page = Page(text)
    assert len(page.addresses) == page.tags.count("img") == 4
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert MARKUP in page.text
    assert "Questions, as training collates them" in page.text
