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


def alone(**fields: Any) -> Conversation:
    return to_conversation(Record(file="a.json", index=0, fields=fields), requires_answer=False)


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


@pytest.mark.parametrize(
    "columns", [("image_0", "image_1"), ("image_00", "image_01"), ("image_99", "image_100")], ids=str
)
def test_columns_have_the_numbers_of_their_keys(columns: tuple[str, str]) -> None:
    numbers = [int(column[6:]) for column in columns]
    fields: dict[str, Any] = dict(zip(columns, (b"first", b"second"), strict=True))
    for words in ("What?", "<image {0}> or <image {1}>?", "<image>\n<image>\nWhich?"):
        assert shown(alone(question=words.format(*numbers), **fields)) == ["first", "second"]
    assert shown(alone(question="<image {1}>, <image {0}>?".format(*numbers), **fields)) == ["second", "first"]


def test_columns_stand_beside_turns_as_well() -> None:
    says = [("human", "Of <image 2>?"), ("gpt", "a"), ("human", "And <image 1>\nof <image 2>?"), ("gpt", "b")]
    found = alone(conversations=[{"from": role, "value": text} for role, text in says], image_1=b"one", image_2=b"two")
    assert [turn.content for turn in found.turns if turn.role == "user"] == [
        ("Of ", IMAGE, "?"),
        ("And ", IMAGE, "\nof ", IMAGE, "?"),
    ]
    assert (shown(found), found.notes) == (["two", "one", "two"], ())
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    assert shown(alone(messages=messages, image_0=b"zero")) == ["zero"]
    earlier = alone(
        query="And <image_2>?", response="b", history=[["Of <image_1>?", "a"]], image_1=b"one", image_2=b"two"
    )
    assert shown(earlier) == ["one", "two"]


@pytest.mark.parametrize("spelling", ["<|image_2|>", "<Image 2>", "<image_2>", "<img_2>"])
def test_other_spellings_name_a_column_too(spelling: str) -> None:
    found = read(question=f"Of {spelling}?")
    assert (found.turns[0].content, shown(found)) == (("Of ", IMAGE, "?\n\nAnswer."), ["picture 2"])


def test_what_stays_text_is_named_and_what_is_no_image_is_refused() -> None:
    found = to_conversation(
        Record(file="a.json", index=0, fields={"question": "<image 1>?", "image_1": b"one"}),
        requires_answer=False,
        placeholders="text",
    )
    assert found.turns[0].content == (IMAGE, "<image 1>?")
    assert [note.about for note in found.notes] == ["<image 1> in a prompt stays text"]
    for words, code in (
        ("<video>?", "other_input"),
        ("<image>?", "image_count"),
        ("<image 1> or <image>?", "image_placeholder"),
        ("[image]?", "image_placeholder"),
    ):
        with pytest.raises(RecordError) as caught:
            read(question=words)
        assert caught.value.code == f"conversation.{code}"


def test_a_column_that_is_not_read_is_named() -> None:
    assert [(note.kind, note.about) for note in alone(question="?", image_1000=b"x").notes] == [("lost", "image_1000")]


def test_beside_an_image_the_words_are_its_place() -> None:
    record = Record(file="a.json", index=0, fields={"question": "<image 1>?", "image": b"only", "image_1": b"other"})
    found = to_conversation(record, requires_answer=False)
    assert found.turns[0].content == (IMAGE, "?")
    assert [(note.kind, note.about) for note in found.notes] == [("lost", "image_1")]
    assert shown(found) == ["only"]
