"""Tests of answers held to a JSON Schema: whatever a model would say, it is of the schema, in shared rows and alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from tests.support import family_cases as cases
from tests.support.refusals import refusal, run_dir, to_stderr
from vlm_lit.cli import main
from vlm_lit.errors import ConfigError
from vlm_lit.models.answer_grammar import AnswerGrammar, HeldAnswers
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.models.sampling import Sampler, SamplingSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.training.supervised import SupervisedModule

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "grey"]}, "count": {"type": "integer", "minimum": 0, "maximum": 40}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
LONGEST = 160  # of bytes and spaces
TALKS = [*cases.about_one_picture(1, 0, questions=3), cases.conversation(1, 1, 9)]


@pytest.fixture(scope="module")
def made(tiny_llava: Path) -> SupervisedModule:
    return cases.module(tiny_llava).eval()


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("packing", [False, True])
def test_every_answer_is_of_the_schema(packing: bool, sampled: bool, made: SupervisedModule, tiny_llava: Path) -> None:
    assert made.model is not None
    encoder = cases.encoder(tiny_llava)
    stop = StopTokens(end_of_turn=encoder.end_of_turn, pad=2)
    grammar = AnswerGrammar(SCHEMA, "of the test", encoder.tokenizer, stop.end_of_turn)
    (batch,) = cases.prompts(encoder, TALKS, packing=packing)
    sampler = Sampler(SamplingSettings(temperature=3.0), [c.id for c in batch.conversations]) if sampled else None
    settings: dict[str, Any] = {"max_new_tokens": LONGEST, "stop": stop, "sampler": sampler}
    model = made.model

    def said(held: AnswerGrammar | None) -> list[str]:
        if batch.segments is None:
            tokens = generate(model, batch.inputs, grammar=held, **settings)
        else:
            family = FAMILIES["llava"]
            tokens = generate_shared(model, batch.inputs, batch.segments, family=family, grammar=held, **settings)
        return [str(text) for text in encoder.tokenizer.batch_decode(tokens)]

    answers = said(grammar)
    assert len(answers) == len(TALKS)
    for answer in answers:
        jsonschema.validate(json.loads(answer), SCHEMA)
    for answer in said(None):
        with pytest.raises(ValueError, match=r"\(char "):
            json.loads(answer)


def test_questions_that_join_others_are_answered_as_alone(made: SupervisedModule, tiny_llava: Path) -> None:
    """Evaluation hands a new batch to a model that is in the middle of another's answers."""
    assert made.model is not None
    encoder, family = cases.encoder(tiny_llava), FAMILIES["llava"]
    stop = StopTokens(end_of_turn=encoder.end_of_turn, pad=2)
    grammar = AnswerGrammar(SCHEMA, "of the test", encoder.tokenizer, stop.end_of_turn)
    settings: dict[str, Any] = {"max_new_tokens": LONGEST, "stop": stop, "grammar": grammar}
    running, expected = RunningAnswers(made.model, family, **settings), []
    found: dict[int, list[int]] = {}
    for talks in (TALKS, cases.about_one_picture(1, 5, questions=2)):
        (batch,) = cases.prompts(encoder, talks, packing=True)
        assert batch.segments is not None
        drawn = [Sampler(SamplingSettings(temperature=3.0), [c.id for c in batch.conversations]) for _ in range(2)]
        expected += generate_shared(
            made.model, batch.inputs, batch.segments, family=family, sampler=drawn[0], **settings
        )
        running.add(batch.inputs, batch.segments, drawn[1])
        found |= dict(running.run(until=2))
        assert len(found) < running.count
    found |= dict(running.run())
    assert [found[number] for number in range(len(expected))] == expected
    for answer in encoder.tokenizer.batch_decode(expected):
        jsonschema.validate(json.loads(answer), SCHEMA)


def test_an_answer_cannot_end_before_it_is_whole(tiny_llava: Path) -> None:
    tokenizer = cases.encoder(tiny_llava).tokenizer
    ends = [int(tokenizer.eos_token_id), int(tokenizer.bos_token_id)]
    held = HeldAnswers(AnswerGrammar(SCHEMA, "of the test", tokenizer, ends), 2)
    wide = len(tokenizer) + 5  # an embedding matrix may have more rows than there are words
    half = tokenizer.encode('{"colour":"red",', add_special_tokens=False)
    rest = tokenizer.encode('"count":7}', add_special_tokens=False)
    for token in [*half, *rest]:
        logits = torch.zeros(1, wide)
        held.hide(logits, [1])
        assert torch.isinf(logits[0, [*ends, *range(len(tokenizer), wide)]]).all()
        assert torch.isfinite(logits[0, token])
        held.take([1], [token])
    logits = torch.zeros(2, wide)
    held.hide(logits, [1, 0])
    assert sorted(torch.isfinite(logits[0]).nonzero()[:, 0].tolist()) >= sorted(ends)
    assert torch.isfinite(logits[0, ends]).all()
    assert torch.isinf(logits[1, ends]).all()  # the other answer has not begun
    held.take([1], [ends[0]])
    held.take([1], [2])  # padding behind the end


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"$ref": "https://elsewhere.org/schema.json"}, "elsewhere"),
        ({"enum": []}, "cannot be kept to"),
    ],
)
def test_what_of_a_schema_cannot_be_kept_to_is_refused(schema: dict[str, Any], said: str, tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        AnswerGrammar(schema, "of the test", cases.encoder(tiny_llava).tokenizer, [1])


def test_a_run_names_what_its_answers_were_held_to(config: Any, tmp_path: Path, capsys: Any) -> None:
    schema = tmp_path / "answers.json"
    schema.write_text(json.dumps(SCHEMA))
    settings = {"max_new_tokens": LONGEST, "answer_schema": str(schema), "metrics": [{"name": "exact_match"}]}
    path = config(model=settings)
    to_stderr()
    assert main(["test", "--config", str(path)]) == 0
    run = run_dir(path)
    results = json.loads((run / "results.json").read_text())
    assert results["answer_schema"]["file"] == str(schema)
    assert len(results["answer_schema"]["sha256"]) == 64
    assert "Answers were held to the JSON Schema" in "".join(capsys.readouterr())
    for line in (run / "predictions.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(json.loads(line)["prediction"]), SCHEMA)
    (tmp_path / "list.json").write_text("[]")
    other = ["--model.init_args.answer_schema", str(tmp_path / "list.json"), "--run_dir", str(tmp_path / "b")]
    assert "holds no JSON Schema" in refusal(capsys, "test", "--config", str(path), *other)
    both = ["--model.init_args.answer_from", "[yes, no]", "--run_dir", str(tmp_path / "b")]
    assert "nothing to hold to a schema" in refusal(capsys, "test", "--config", str(path), *both)
