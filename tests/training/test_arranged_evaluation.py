"""Tests of evaluations whose batches are arranged over the whole set: the same results, in the file's order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support import tiny_models
from tests.support.runs import predictions, run_dir, verb
from vlm_lit.data import step_datamodule
from vlm_lit.schema import PromptBatch, Reply
from vlm_lit.training.answered import AnsweredModule

Config = Callable[..., Path]
PICTURES, QUESTIONS = 4, 3


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A file in which the questions about each of four pictures stand apart, with questions of several lengths."""
    (tmp_path / "images").mkdir()
    for k in range(PICTURES):
        tiny_models.picture(k).save(tmp_path / f"images/{k}.png")
    rows = [
        {
            "id": f"{question}-{k}",
            "image": f"images/{k}.png",
            "question": "what colour is the lamp" + " and the tool" * ((k + question) % 3) + "?",
            "answer": "red",
        }
        for question in range(QUESTIONS)
        for k in range(PICTURES)
    ]
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int]]:
    """The ids that are answered together, with the number of pictures that are looked at for them."""
    seen: list[tuple[list[str], int]] = []
    replies = AnsweredModule.replies

    def noted(self: AnsweredModule, batch: PromptBatch) -> list[Reply]:
        seen.append(([c.id for c in batch.conversations], len(batch.inputs["pixel_values"])))
        return replies(self, batch)

    monkeypatch.setattr(AnsweredModule, "replies", noted)
    return seen


def test_questions_about_a_picture_are_answered_together_wherever_they_stand(
    config: Config, mixed: Path, looked_at: list[tuple[list[str], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(data={"test": {"path": str(mixed)}, "eval_batch": QUESTIONS})
    assert verb("test", path) == 0
    together = list(looked_at)
    assert [pictures for _, pictures in together] == [1] * PICTURES
    looked_at.clear()
    monkeypatch.setattr(step_datamodule, "arranged", lambda batches, *_: batches)
    assert verb("test", path, f"--run_dir={run_dir(path)}/in_file_order") == 0
    assert sum(pictures for _, pictures in looked_at) == PICTURES * QUESTIONS
    found, expected = predictions(run_dir(path)), predictions(run_dir(path) / "in_file_order")
    assert [row["id"] for row in found] == [row["id"] for row in json.loads(mixed.read_text())]
    assert found == expected
    one, other = (
        json.loads((p / "results.json").read_text()) for p in (run_dir(path), run_dir(path) / "in_file_order")
    )
    assert one["metrics"] == other["metrics"]


def test_a_limit_is_one_of_the_files_first_questions(
    config: Config, mixed: Path, looked_at: list[tuple[list[str], int]]
) -> None:
    path = config(data={"test": {"path": str(mixed)}, "eval_batch": QUESTIONS}, trainer={"limit_test_batches": 2})
    assert verb("test", path) == 0
    names = [row["id"] for row in json.loads(mixed.read_text())]
    assert sorted(name for ids, _ in looked_at for name in ids) == sorted(names[: 2 * QUESTIONS])
    assert [row["id"] for row in predictions(run_dir(path))] == names[: 2 * QUESTIONS]


@pytest.mark.slow(but_first=True)
@pytest.mark.filterwarnings("ignore:Out of memory")
@pytest.mark.parametrize("answer_from", [None, ["red", "blue lamp", "two red tools"]])
def test_memory_that_runs_out_anywhere_in_the_model_leaves_the_answers_as_they_are(
    answer_from: list[str] | None, config: Config, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {} if answer_from is None else {"answer_from": answer_from}
    path = config(data={"test": {"path": str(mixed)}, "eval_batch": 6}, model=model)
    assert verb("test", path, f"--run_dir={run_dir(path)}/whole") == 0
    whole = predictions(run_dir(path) / "whole")
    plain, calls, failing = torch.nn.functional.silu, list[int](), list[int]()

    def hungry(given: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        calls.append(1)
        if len(calls) in failing:
            torch.empty(2**50, dtype=torch.uint8)  # a real refusal: no machine has a petabyte
        return plain(given, inplace=inplace)

    monkeypatch.setattr(torch.nn.functional, "silu", hungry)
    assert verb("test", path, f"--run_dir={run_dir(path)}/counted") == 0
    passes = len(calls)
    assert passes > 4
    # In the prompts' pass, in its first layers, in later tokens; then twice, down to one question.
    for depth, places in enumerate(([1], [2], [passes // 4], [passes], [1, 2])):
        calls.clear()
        failing[:] = places
        assert verb("test", path, f"--run_dir={run_dir(path)}/{depth}") == 0
        found = predictions(run_dir(path) / str(depth))
        sure, surely = ([row.pop("confidence", 1.0) for row in rows] for rows in (found, [dict(r) for r in whole]))
        assert found == [{k: v for k, v in row.items() if k != "confidence"} for row in whole]
        assert sure == pytest.approx(surely, rel=1e-5)
