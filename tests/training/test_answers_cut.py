"""Tests of what results say of their answers: how many were cut, references too long for an answer, near misses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.refusals import to_stderr
from tests.support.runs import predictions, run_dir, verb
from tests.support.scored_anew import scored_anew
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.models.families import FAMILIES
from vlm_lit.schema import Prediction
from vlm_lit.studies.run_files.predictions import read_predictions
from vlm_lit.training.answer_basis import basis_of
from vlm_lit.training.answering import Answering
from vlm_lit.training.callbacks import answer_limit
from vlm_lit.training.callbacks.answer_limit import too_long

Config = Callable[..., Path]


def results(path: Path, split: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir(path) / f"{split}results.json").read_text())
    return found


@pytest.fixture
def long_answers(tmp_path: Path) -> Path:
    """Four questions about a picture: three short answers, and one of twelve words."""
    tiny_models.picture(1).save(tmp_path / "a.png")
    answers = ["red", "blue", "yes", " ".join(["red"] * 12)]
    rows = [{"id": f"q{i}", "question": "what?", "answer": a, "image": "a.png"} for i, a in enumerate(answers)]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_answers_that_hit_the_limit_are_counted_marked_and_said(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config()
    to_stderr()
    assert verb("test", path) == 0
    rows, found = predictions(run_dir(path)), results(path)
    cut = [row for row in rows if row.get("unfinished")]
    assert cut  # an untrained model ends hardly a turn within four tokens
    assert (found["unfinished"], found["unfinished_share"]) == (len(cut), len(cut) / len(rows))
    assert f"{len(cut)} of {len(rows)} answers" in capsys.readouterr().err
    read = read_predictions(run_dir(path) / "predictions.jsonl")
    assert [p.unfinished for p in read] == ["unfinished" in row for row in rows]


@pytest.mark.parametrize("packing", [True, False])
def test_an_answer_is_finished_if_it_ends_its_turn_within_the_limit(packing: bool, tiny_llava: Path) -> None:
    module, encoder, longest = cases.module(tiny_llava).eval(), cases.encoder(tiny_llava), 5
    asked = cases.about_one_picture(1, 0, questions=3)
    (batch,) = cases.prompts(encoder, asked, packing=packing)
    answering = Answering(module.model, FAMILIES["llava"], encoder)
    assert [reply.unfinished for reply in answering.replies(batch, longest)] == [True] * 3
    said = answering.tokens(batch.inputs, batch.segments, longest)
    # The last word of the first answer now ends a turn: where that is its first occurrence, just in time.
    end = said[0][-1]
    answering.stop = replace(answering.stop, end_of_turn=(end,))
    replies = answering.replies(batch, longest)
    assert [reply.unfinished for reply in replies] == [end not in tokens for tokens in said]
    assert not replies[0].unfinished


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(("name", "split"), [("test", "test"), ("validate", "val"), ("fit", "val")])
def test_references_longer_than_an_answer_may_be_are_said_ahead_once(
    name: str, split: str, config: Config, long_answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data={split: {"path": str(long_answers)}})
    to_stderr()
    assert verb(name, path) == 0
    shown = capsys.readouterr().err
    line = f"Warning: data.init_args.{split}: 1 of 4 references have more than the 4 tokens that an answer may have"
    assert shown.count(line) == 1
    assert shown.count("Warning: data.init_args") == 1


def test_of_very_many_questions_some_in_even_distances_are_looked_at(
    config: Config, long_answers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_limit, "MOST_QUESTIONS", 2)
    rows = json.loads(long_answers.read_text())
    long_answers.write_text(json.dumps([rows[0], rows[3], rows[3] | {"id": "q4"}, rows[1]]))
    path = config(data={"test": {"path": str(long_answers)}})
    to_stderr()
    assert verb("test", path) == 0
    shown = capsys.readouterr().err
    assert "1 of 2 references have more than the 4 tokens" in shown
    assert "(one question in 2 was looked at)" in shown


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("more", ["max_new_tokens=64", 'answer_from=["red","blue"]'])
def test_nothing_is_said_where_no_answer_is_cut(
    more: str, config: Config, long_answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(data={"test": {"path": str(long_answers)}})
    to_stderr()
    assert verb("test", path, f"--model.init_args.{more}") == 0
    assert "Warning: data.init_args" not in capsys.readouterr().err
    assert ("unfinished" in results(path)) == (not more.startswith("answer_from"))


def test_lengths_are_in_tokens_and_repeats_count(tiny_llava: Path) -> None:
    tokenizer = load_processor(str(tiny_llava)).tokenizer
    text = "red red red red"
    tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert tokens < len(text)
    assert not too_long(Counter({text: 3, "blue": 97}), tokenizer, tokens)
    said = too_long(Counter({text: 3, "blue": 97}), tokenizer, tokens - 1)
    assert said.startswith(f"3 of 100 references have more than the {tokens - 1} tokens")
    assert f"95% of the references have up to {len(tokenizer('blue', add_special_tokens=False)['input_ids'])}" in said
    assert f"the longest has {tokens};" in said


def test_results_say_how_many_references_and_near_misses_there_are(config: Config, long_answers: Path) -> None:
    path = config(data={"test": {"path": str(long_answers)}})
    assert verb("test", path, '--model.init_args.answer_from=["Red","BLUE"]') == 0
    found, rows = results(path), predictions(run_dir(path))
    assert found["references"] == {"min": 1, "mean": 1.0, "max": 1}
    near = sum(row["prediction"].lower() in row["references"] for row in rows)
    assert found["misses"] == {
        "n": 4, "case": near, "full_stop": 0, "article": 0, "number_word": 0, "any_of_these": near,
    }  # fmt: skip
    assert near


def test_what_there_is_nothing_to_say_of_is_left_out() -> None:
    answer = Prediction(
        id="a", image=None, image_id=None, question="?", references=(), prediction="x", score=None, groups={}
    )
    assert basis_of([answer], generated=False) == {}
    assert basis_of([answer], generated=True) == {"unfinished": 0, "unfinished_share": 0.0}
    assert basis_of([], generated=True) == {}


# The default metric ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_by_default_one_reference_each_is_led_by_the_normalised_metric(config: Config, long_answers: Path) -> None:
    path = config(
        model={"metrics": None}, data={"val": {"path": str(long_answers)}, "test": {"path": str(long_answers)}}
    )
    listed = '--model.init_args.answer_from=["Red","BLUE"]'
    assert verb("fit", path, listed, "--keep_best", "val/vqa_accuracy[normalize=always]") == 0
    assert verb("test", path, listed, "--ckpt_path", "best") == 0
    found, rows = results(path)["metrics"], predictions(run_dir(path))
    first = "vqa_accuracy[normalize=always]"
    assert [name for name in found if "/" not in name][:3] == [first, "vqa_accuracy", "exact_match"]
    assert found[first] == sum(row["score"] for row in rows) / 4 > 0
    assert found["vqa_accuracy"] == found["exact_match"] == 0
    anew = scored_anew(run_dir(path), {"name": "vqa_accuracy", "options": {"normalize": "always"}})
    assert anew.items() <= found.items()
