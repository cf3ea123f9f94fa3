"""Through the command line: the same answers packed and plain, and answers chosen from a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from runs import predictions, run_dir, verb

from vlm_lit.schema import ConfigError
from vlm_lit.training.answering import ClosedSet

Config = Callable[..., Path]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Seven questions, four about one picture and two about another; one of the four stands apart."""
    rows = []
    for i, picture in enumerate("aaabcba"):
        tiny_models.picture(ord(picture)).save(tmp_path / f"{picture}.png")
        asked = "<image>\nwhat colour is it?" + " and the tool" * (i % 3)
        talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": "yes" if i % 2 else "no"}]
        rows.append({"id": f"q{i}", "image": f"{picture}.png", "conversations": talk})
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def answers(config: Config, questions: Path, *more: str, **data: object) -> list[dict[str, Any]]:
    path = config(data={"test": {"path": str(questions)}, "eval_batch": 4, **data})
    assert verb("test", path, *more) == 0
    return predictions(run_dir(path))


def test_packed_and_plain_evaluations_give_the_same_answers_in_the_files_order(config: Config, questions: Path) -> None:
    packed = answers(config, questions)
    assert [row["id"] for row in packed] == [f"q{i}" for i in range(7)]
    assert answers(config, questions, packing=False) == packed
    assert answers(config, questions, eval_batch=1) == packed


def test_prompts_are_read_by_workers_as_well(config: Config, questions: Path) -> None:
    assert answers(config, questions, num_workers=2) == answers(config, questions)


def test_answers_are_chosen_from_a_list(config: Config, questions: Path) -> None:
    listed = '--model.init_args.answer_from=["yes","no","two tools"]'
    chosen = answers(config, questions, listed)
    assert {row["prediction"] for row in chosen} <= {"yes", "no", "two tools"}
    assert answers(config, questions, listed, packing=False) == chosen
    mean = answers(config, questions, listed, "--model.init_args.answer_score=mean")
    assert {row["prediction"] for row in mean} <= {"yes", "no", "two tools"}


@pytest.mark.parametrize(
    ("listed", "problem"), [([], "two answers or more"), (["yes"], "two answers"), (["a", " "], "empty"),
                            (["a", "b", "a "], "'a' twice")]
)  # fmt: skip
def test_lists_that_leave_no_choice_are_refused(listed: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ClosedSet(listed)
