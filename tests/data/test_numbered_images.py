"""Tests of images in numbered columns: they stand where the text names them, others nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, Record

PROMPT = "{question}\n{choices|}\nAnswer."


def read(prompt: str = PROMPT, **fields: Any) -> Conversation:
    whole = {f"image_{k}": f"picture {k}".encode() for k in (1, 2, 3)} | {"image_4": None, "choices": None} | fields
    return to_conversation(Record(file="a.json", index=0, fields=whole), prompt=prompt, requires_answer=False)


def shown(conversation: Conversation) -> list[str]:
    return [(ref.data or b"").decode() for ref in conversation.images]


def test_images_stand_where_question_and_options_name_them() -> None:
    found = read(question="Of <image 2> and <image 1>?", choices=["red", "<image 3>"])
    assert found.turns[0].content == ("Of ", IMAGE, " and ", IMAGE, "?\nA. red\nB. ", IMAGE, "\nAnswer.")
    assert shown(found) == ["picture 2", "picture 1", "picture 3"]
    assert found.choices == ("red", "<image 3>")


def test_an_image_named_twice_is_shown_twice() -> None:
    found = read(question="<image 1> or <image 2> or <image 1>?")
    assert found.turns[0].content == (IMAGE, " or ", IMAGE, " or ", IMAGE, "?\n\nAnswer.")
    assert shown(found) == ["picture 1", "picture 2", "picture 1"]


def test_an_image_that_is_not_named_is_not_shown() -> None:
    assert shown(read(question="What is in <image 3>?")) == ["picture 3"]


def test_where_none_is_named_all_stand_at_the_start() -> None:
    found = read(question="What?")
    assert found.turns[0].content == (IMAGE, IMAGE, IMAGE, "What?\n\nAnswer.")
    assert shown(found) == ["picture 1", "picture 2", "picture 3"]


@pytest.mark.parametrize("number", [4, 9])
def test_an_image_that_is_not_there_is_named(number: int) -> None:
    with pytest.raises(RecordError, match=f"its text names <image {number}>, and there is no image_{number}") as caught:
        read(question=f"<image 1> and <image {number}>?")
    assert caught.value.code == "conversation.numbered_image"


def test_ten_images_keep_their_order() -> None:
    images: dict[str, Any] = {f"image_{k}": f"picture {k}".encode() for k in range(10, 0, -1)}
    found = read(question="What?", **images)
    assert shown(found) == [f"picture {k}" for k in range(1, 11)]


def test_beside_an_image_the_words_are_its_place() -> None:
    record = Record(file="a.json", index=0, fields={"question": "<image 1>?", "image": b"only", "image_1": b"other"})
    found = to_conversation(record, requires_answer=False)
    assert found.turns[0].content == (IMAGE, "?")
    assert [(note.kind, note.about) for note in found.notes] == [("lost", "image_1")]
    assert shown(found) == ["only"]
