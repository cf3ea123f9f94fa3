"""Tests of answering through the command line: packed as plain, and answers chosen from a list."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.runs import predictions, run_dir, verb
from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.errors import ConfigError
from vlm_lit.models.closed_set import closed_set_scores
from vlm_lit.models.families import FAMILIES
from vlm_lit.training.answering import Answering, ClosedSet

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


@pytest.mark.slow
def test_answers_are_drawn_where_that_is_asked_for(config: Config, questions: Path) -> None:
    drawn = "--model.init_args.sampling.temperature=1.5"
    sampled = answers(config, questions, drawn)
    assert answers(config, questions, drawn, packing=False, eval_batch=1) == sampled
    assert answers(config, questions, drawn, "--model.init_args.sampling.seed=1") != sampled
    assert answers(config, questions) != sampled


def test_answers_are_chosen_from_a_list(config: Config, questions: Path) -> None:
    listed = '--model.init_args.answer_from=["yes","no","two tools"]'
    chosen = answers(config, questions, listed)
    assert {row["prediction"] for row in chosen} <= {"yes", "no", "two tools"}
    plain = answers(config, questions, listed, packing=False)
    sure, surely = ([row.pop("confidence") for row in rows] for rows in (chosen, plain))
    assert plain == chosen
    assert surely == pytest.approx(sure, rel=1e-4)  # log-likelihoods of some nats each, in float32
    assert all(1 / 3 <= share <= 1 for share in sure)  # the likeliest of three
    assert len(set(sure)) > 1


def test_an_answer_that_is_generated_has_no_confidence(config: Config, questions: Path) -> None:
    assert all("confidence" not in row for row in answers(config, questions))


def test_the_confidence_is_the_softmax_of_what_the_choice_was_made_by(tiny_llava: Path) -> None:
    module = cases.module(tiny_llava).eval()
    encoder, family = cases.encoder(tiny_llava), FAMILIES["llava"]
    (batch,) = cases.prompts(encoder, cases.about_one_picture(1, 0, questions=3), packing=True)
    listed, pad = ["red", "red tools and lamps", "two"], int(encoder.tokenizer.pad_token_id)
    for score in ("sum", "mean"):
        answering = Answering(module.model, family, encoder, ClosedSet(listed, score))
        tokens, per_token = candidate_tokens(encoder, listed), score == "mean"
        found = closed_set_scores(
            module.base, batch.inputs, batch.segments, tokens, family=family, pad=pad, per_token=per_token
        )
        for reply, row in zip(answering.replies(batch, 4), found.tolist(), strict=True):
            weights = [math.exp(value - max(row)) for value in row]
            assert reply.text == listed[row.index(max(row))]
            assert reply.confidence == pytest.approx(1 / math.fsum(weights), rel=1e-9)


@pytest.mark.parametrize(
    ("listed", "problem"), [([], "two answers or more"), (["yes"], "two answers"), (["a", " "], "empty"),
                            (["a", "b", "a "], "'a' twice")]
)  # fmt: skip
def test_lists_that_leave_no_choice_are_refused(listed: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ClosedSet(listed)


def test_the_ends_of_generation_settings_end_answers_too(tiny_llava: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llava, tmp_path / "llava"))
    tokens = cases.encoder(folder).tokenizer
    image, word = tokens.convert_tokens_to_ids(["<image>", "red"])
    for listed, ends in (([1, image, word], {1, image}), (image, {1, image}), (word, {1}), (None, {1})):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": listed}))
        encoder = cases.encoder(folder)
        stop = Answering(cases.adapted(folder), FAMILIES["llava"], encoder).stop
        assert set(stop.end_of_turn) == ends == {*encoder.end_of_turn, *ends}
