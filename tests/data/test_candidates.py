"""Are an answer's tokens those that training would supervise?"""

from __future__ import annotations

from pathlib import Path

import family_cases as cases
import pytest
from tiny_families.catalogue import TINY

from vlm_lit.data.candidates import candidate_tokens
from vlm_lit.data.encoding import Encoder
from vlm_lit.schema import ConfigError

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


def test_an_answer_that_runs_into_its_prompt_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = cases.encoder(folders["llava"])
    assert isinstance(encoder, Encoder)
    # A template that asks with a blank at its end, which the answer's first letter would be joined with.
    template = str(encoder.processor.chat_template).replace("'ASSISTANT:'", "'ASSISTANT: '")
    monkeypatch.setattr(encoder.processor, "chat_template", template)
    with pytest.raises(ConfigError, match="answer_from cannot be scored: the tokenizer joins"):
        candidate_tokens(encoder, ["red"])
