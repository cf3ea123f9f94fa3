"""Tests of every kind of conversation in every family's template: supervised text, prompt, shared rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.support.family_cases import runs
from tests.support.talks import TALKS, answer, talk
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.packing import packed
from vlm_lit.errors import RecordError
from vlm_lit.schema import IGNORE_INDEX, Conversation

FAMILIES = [name for name in TINY if name != "paligemma"]
REFUSED = {
    "pixtral": {name: "leaves out the system message's words" for name in TALKS if "system" in name},
    "mllama": {
        "late image": "first picture stands in a later turn",
        "system": "incompatible with system messages",
        "system, two turns": "incompatible with system messages",
    },
}


@cache
def encoder(family: str) -> Encoder:
    made = encoder_of(TINY[family].build(0)[1])
    assert isinstance(made, Encoder)
    return made


def encoded(made: Encoder, conversation: Conversation, *, asked: bool = False) -> Any:
    return made.encode([conversation], [load_images(conversation)], side="right", for_generation=asked)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_end_of_turn_and_prompt(family: str) -> None:
    made = encoder(family)
    facts, tokens = made.transcript.facts, made.tokenizer
    for name in TALKS:
        conversation = talk(name)
        if name in REFUSED.get(family, {}):
            with pytest.raises(RecordError, match=REFUSED[family][name]):
                encoded(made, conversation)
            continue
        row = encoded(made, conversation)
        said = [turn.text for turn in conversation.turns if turn.role == "assistant"]
        words = [text.strip() if facts.trims_answers else text for text in said]
        found = runs(row, 0)
        ends = {tokens.decode([run[-1]]) for run in found}
        assert [tokens.decode(run[:-1]) for run in found] == [facts.separator + text for text in words], name
        assert len(ends) == 1
        assert {run[-1] for run in found} <= set(made.end_of_turn), name
        trained = row.inputs["input_ids"][0].tolist()
        prompt = encoded(made, conversation, asked=True).inputs["input_ids"][0].tolist()
        assert trained[: len(prompt)] == prompt, name
        assert trained[len(prompt) : len(prompt) + len(found[-1])] == found[-1], name
        assert row.labels[0, len(prompt) - 1] == IGNORE_INDEX
        whole = tokens.decode(trained)
        for turn in conversation.turns:
            for part in turn.content if turn.role == "user" else ():
                assert not isinstance(part, str) or (part.strip() if facts.trims_questions else part) in whole, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("first", ["red", "\n red", "</s> red"])
def test_a_shared_row_holds_the_plain_rows(family: str, first: str) -> None:
    made = encoder(family)
    one = talk("line breaks")
    two = Conversation(id="two", turns=(one.turns[0], answer(first)), images=one.images)
    rows = [made.rows([made.write(c)], [load_images(c)])[0][0] for c in (one, two)]
    shared, segments = packed(rows)
    for k, row in enumerate(rows, 1):
        own = (segments == 0) | (segments == k)
        assert torch.equal(shared.fields["input_ids"][own], row.fields["input_ids"])
        assert [flag for flag, mine in zip(shared.supervised, own.tolist(), strict=True) if mine] == row.supervised
