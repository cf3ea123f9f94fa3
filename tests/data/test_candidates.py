"""Tests of candidate answers' tokens: they are those that training would supervise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.encoding import Encoder

ANSWERS = ["red", "blue and green", " two tools ", "</s>", "no"]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "paligemma", "gemma3"])
def test_the_tokens_are_the_supervised_ones(name: str, folders: dict[str, Path]) -> None:
    encoder, tiny = cases.encoder(folders[name]), TINY[name]
    found = candidate_tokens(encoder, ANSWERS)
    for seed, said in enumerate(found):
        talk = cases.conversation(tiny.images[-1], 1, seed, said=ANSWERS[seed:] + ANSWERS[:seed])
        spoken = talk.turns[-1].text
        assert cases.runs(cases.encode(encoder, [talk]), 0) == [found[ANSWERS.index(spoken)]]
        assert said[-1] in encoder.end_of_turn


def test_an_answer_that_would_be_joined_with_its_prompt_has_the_supervised_tokens(folders: dict[str, Path]) -> None:
    processor = load_processor(str(folders["llava"]))
    # A template that asks with a blank at its end, which the tokenizer would join with the answer's first letter.
    processor.chat_template = str(processor.chat_template).replace("'ASSISTANT:'", "'ASSISTANT: '")
    encoder = encoder_of(processor)
    assert isinstance(encoder, Encoder)
    talk = cases.conversation(1, 1, 0, said=["red"])
    assert candidate_tokens(encoder, ["red"]) == cases.runs(cases.encode(encoder, [talk]), 0)
