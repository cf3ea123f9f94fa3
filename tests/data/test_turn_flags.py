"""Tests of turn flags: excluded answers, and no others, are left out of the labels."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Record


def read(fields: dict[str, Any], **options: Any) -> Conversation:
    return to_conversation(Record(file="a.json", index=3, fields=fields), requires_answer=True, **options)


def talk(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **fields: object) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "a?"},
            {"role": "assistant", "content": "WRONG", **(first or {})},
            {"role": "user", "content": "b?"},
            {"role": "assistant", "content": "right", **(second or {})},
        ],
        **fields,
    }


def learned(conversation: Conversation) -> list[bool]:
    return [turn.supervised for turn in conversation.turns if turn.role == "assistant"]


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ({"weight": 0}, {"weight": 1}),
        ({"weight": 0.0}, {"weight": 1.0}),
        ({"loss": False}, {"loss": True}),
        ({"loss": False}, {"loss": None}),
        ({"train": False}, {}),
        ({"train": "false"}, {"train": "true"}),
        ({"training": False}, {"training": True}),
        ({"train_on_turn": False}, {"train_on_turn": True}),
        ({"trainable": False}, {}),
        ({"supervised": 0}, {"supervised": 1}),
        ({"learn": False}, {"learn": None}),
    ],
    ids=str,
)
def test_a_turns_flag_says_whether_it_is_learned(off: dict[str, Any], on: dict[str, Any]) -> None:
    assert learned(read(talk(off, on))) == [False, True]
    assert learned(read(talk(on, off))) == [True, False]
    assert learned(read(talk(off, on), ignore_keys=list(off))) == [True, True]


def test_an_answer_that_is_not_learned_is_no_reference() -> None:
    assert read(talk({"weight": 0})).references == ("right",)
    assert read(talk({}, {"weight": 0})).references == ()
    assert read(talk({}, {"weight": 0}, answers=["blue", "red"])).references == ("blue", "red")


@pytest.mark.parametrize("mask", [[0, 0, 0, 1], [0, 1], [False, True]])
def test_a_mask_has_an_entry_a_turn_or_an_answer(mask: list[object]) -> None:
    assert learned(read(talk(loss_mask=mask))) == [False, True]


@pytest.mark.parametrize(
    "fields",
    [
        talk({"weight": 0.5}),
        talk({"loss": "maybe"}),
        talk({"weight": 0, "train": True}),
        talk({"train_on_turn": False, "train": True}),
        talk({"training_detail": [{"begin_offset": 0}]}),
        talk({"weight": 0}, {"weight": 0}),
        talk(loss_mask=[0, 1, 1]),
        talk(loss_mask=[1, 0, 0, 1]),
        talk(weight=0.3),
        talk(loss=False),
        {"messages": [{"role": "user", "content": "a?", "train": True}, {"role": "assistant", "content": "b"}]},
    ],
    ids=str,
)
def test_a_flag_that_cannot_be_honoured_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        read(fields)
    assert caught.value.code in ("conversation.turn_flag", "conversation.key")


def test_a_weight_that_the_prompt_shows_is_no_flag() -> None:
    found = read({"weight": "500 g", "answer": "a mug"}, prompt="It weighs {weight}.")
    assert found.turns[0].text == "It weighs 500 g."
