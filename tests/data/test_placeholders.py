"""Tests of image placeholders: each is a place or is refused, and every other word is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, Record

ROOT = Path("/set")
SAYS = {"role": "assistant", "content": "<image> of a box"}


def read(fields: dict[str, Any], **options: Any) -> Conversation:
    record = Record(file="a.json", index=3, fields=fields, image_root=ROOT)
    return to_conversation(record, requires_answer=True, **options)


def chat(*words: object, **fields: object) -> dict[str, Any]:
    turns = [turn for content in words for turn in ({"role": "user", "content": content}, SAYS)]
    return {"messages": turns, **fields}


def contents(conversation: Conversation) -> list[tuple[object, ...]]:
    return [turn.content for turn in conversation.turns if turn.role == "user"]


def names(conversation: Conversation) -> list[str]:
    return [image.path.name for image in conversation.images if image.path is not None]


def test_messages_beside_images_have_their_places_in_the_words() -> None:
    found = read(chat("<image>Which?", "And <image>\nthis, <image>?", "Sure?", images=["a.png", "b.png", "c.png"]))
    assert contents(found) == [(IMAGE, "Which?"), ("And ", IMAGE, "this, ", IMAGE, "?"), ("Sure?",)]
    assert names(found) == ["a.png", "b.png", "c.png"]
    assert {turn.content for turn in found.turns if turn.role == "assistant"} == {("<image> of a box",)}


def test_beside_image_parts_the_words_stay_words() -> None:
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is <image>?"}]
    found = read(chat(parts))
    assert contents(found) == [(IMAGE, "What is <image>?")]
    assert [note.about for note in found.notes] == ["<image> in a prompt stays text"]


def test_parts_and_placeholders_of_different_turns_take_the_images_in_reading_order() -> None:
    parts = [{"type": "text", "text": "See"}, {"type": "image"}]
    found = read(chat("<image>A", parts, "B<image>", images=["a.png", "b.png", "c.png"]))
    assert contents(found) == [(IMAGE, "A"), ("See", IMAGE), ("B", IMAGE)]
    assert names(found) == ["a.png", "b.png", "c.png"]


def test_text_parts_without_an_image_part_may_say_where_it_goes() -> None:
    assert contents(read(chat([{"type": "text", "text": "<image>A"}], image="a.png"))) == [(IMAGE, "A")]


def test_a_question_may_say_where_its_image_goes() -> None:
    found = read({"question": "Look at <image> and say.", "answer": "box", "image": "a.png"})
    assert contents(found) == [("Look at ", IMAGE, " and say.")]
    asked = read({"question": "<image>\nWhat?", "answer": "box", "image": "a.png"}, prompt="{question}\nOne word.")
    assert contents(asked) == [(IMAGE, "What?\nOne word.")]


ONE = [
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>",
    "<|image_pad|>",
    "<|image|>",
    "<|begin_of_image|><|image|><|end_of_image|>",
    "<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
    "<img><IMG_CONTEXT><IMG_CONTEXT></img>",
    "<start_of_image>",
    "<start_of_image><image_soft_token><image_soft_token><end_of_image>",
    "<image_soft_token>",
    "[IMG]",
    "<ImageHere>",
    "<image_placeholder>",
    "<image-placeholder>",
    "<|image_1|>",
    "<image_1>",
    "<image 1>",
    "<image1>",
    "<image_0>",
    "<image_00>",
    "(<image>./</image>)",
    "<im_start><image><im_end>",
    "<IMAGE>",
]


@pytest.mark.parametrize("spelling", ONE)
def test_what_other_programs_write_is_a_place(spelling: str) -> None:
    expected = [
        (
            "See",
            IMAGE,
            "there",
        )
    ]
    assert contents(read(chat(f"See{spelling}there", image="a.png"))) == expected
    assert (
        contents(
            read(
                {
                    "conversations": [
                        {"from": "human", "value": f"See{spelling}\nthere"},
                        {"from": "gpt", "value": "x"},
                    ],
                    "image": "a.png",
                }
            )
        )
        == expected
    )
    assert contents(read({"question": f"See{spelling}there", "answer": "x", "image": "a.png"})) == expected


@pytest.mark.parametrize("spelling", [s for s in ONE if s != "<image>"])
def test_a_place_without_an_image_is_refused(spelling: str) -> None:
    for fields in (chat(f"See {spelling}"), chat(f"{spelling}{spelling}", image="a.png")):
        with pytest.raises(RecordError) as caught:
            read(fields)
        assert caught.value.code in ("conversation.image_count", "conversation.image_placeholder")
        assert spelling[-8:] in str(caught.value)
        assert "<image>" in caught.value.remedy


def test_numbers_say_which_image_is_meant() -> None:
    found = read(chat("<|image_2|>A<|image_1|>", images=["a.png", "b.png"]))
    assert contents(found) == [(IMAGE, "A", IMAGE)]
    assert names(found) == ["b.png", "a.png"]


@pytest.mark.parametrize("text", ["<image_1><image_1>", "<image_1><image_3>", "<image_1><image>"])
def test_numbers_that_do_not_name_each_image_once_are_refused(text: str) -> None:
    with pytest.raises(RecordError, match="record 3"):
        read(chat(text, images=["a.png", "b.png"]))


@pytest.mark.parametrize(
    ("images", "words", "order"),
    [
        ({"<image_01>": "b.png", "<image_00>": "a.png"}, "<image_00> <image_01>", ["a.png", "b.png"]),
        ({"<image_01>": "b.png", "<image_00>": "a.png"}, "<image_01> <image_00>", ["b.png", "a.png"]),
        ({"<image_10>": "k.png", "<image_9>": "j.png"}, "Which?", ["j.png", "k.png"]),
        ({"<first>": "b.png", "<second>": "a.png"}, "Which?", ["b.png", "a.png"]),
    ],
    ids=str,
)
def test_images_under_placeholders_go_by_their_numbers(images: dict[str, str], words: str, order: list[str]) -> None:
    assert names(read(chat(words, image=images))) == order


PART = {"type": "image"}
WORDS = {"type": "text", "text": "Which?", "index": None}


def test_an_image_part_may_say_by_an_index_which_image_it_is() -> None:
    pair = ["a.png", "b.png"]
    for first, second in ((1, 0), (2, 1), (1.0, 0.0)):
        parts = [{**PART, "index": first}, {**PART, "index": second}, WORDS]
        assert names(read(chat(parts, images=pair))) == ["b.png", "a.png"]
    assert names(read(chat([{**PART, "index": 1}, WORDS], [{**PART, "index": 0}, WORDS], images=pair))) == pair[::-1]
    assert names(read(chat([PART, {**WORDS, "index": 1}, {**PART, "index": 2}], images=pair))) == pair  # of all parts
    assert names(read(chat([{**PART, "index": 7, "image": "c.png"}, PART, WORDS], image="a.png"))) == ["c.png", "a.png"]
    found = read(chat([{**PART, "index": "first"}, WORDS], image="a.png"))
    assert [note.about for note in found.notes] == ["index of a part"]


@pytest.mark.parametrize("indices", [(0, 0), (0, 2), (0, None)], ids=str)
def test_indices_that_do_not_name_each_image_once_are_refused(indices: tuple[int | None, ...]) -> None:
    parts = [{**PART, "index": index} for index in indices]
    with pytest.raises(RecordError, match="image part of index 0") as caught:
        read(chat([*parts, WORDS], images=["a.png", "b.png"]))
    assert caught.value.code == "conversation.image_placeholder"


def test_a_path_between_tags_is_an_image() -> None:
    found = read(chat("Picture 1: <img>a.png</img>\nWhat?", "And <img>b/c.png</img>?"))
    assert contents(found) == [("Picture 1: ", IMAGE, "What?"), ("And ", IMAGE, "?")]
    assert names(found) == ["a.png", "c.png"]
    with pytest.raises(RecordError) as caught:
        read(chat("<img>a.png</img>What?", image="a.png"))
    assert caught.value.code == "conversation.image_placeholder"


@pytest.mark.parametrize(
    "spelling",
    [
        "<video>",
        "<audio>",
        "<|video_pad|>",
        "<|AUDIO|>",
        "<|audio_1|>",
        "<video_soft_token>",
        "<AudioHere>",
        "<bbox>",
        "<ref-object>",
        "<|vision_start|><|video_pad|><|vision_end|>",
    ],
)
def test_other_inputs_are_refused(spelling: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(chat(f"{spelling}What happens?"))
    assert caught.value.code == "conversation.other_input"
    assert contents(read(chat(f"{spelling}What?"), placeholders="text")) == [(f"{spelling}What?",)]


@pytest.mark.parametrize("spelling", ["<picture>", "<|visual|>", "[image]", "{image}", "<my_image_token>", "<img>"])
def test_what_looks_like_a_placeholder_is_refused_where_an_image_has_no_place(spelling: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(chat(f"{spelling}What?", image="a.png"))
    assert caught.value.code == "conversation.image_placeholder"
    assert spelling in caught.value.problem
    kept = read(chat(f"<image>What is {spelling}?", image="a.png"))
    assert contents(kept) == [(IMAGE, f"What is {spelling}?")]
    assert [note.about for note in kept.notes] == [f"{spelling} in a prompt stays text"]


def test_placeholders_may_be_words() -> None:
    found = read(chat("What is <image> in <|image_pad|>?", image="a.png"), placeholders="text")
    assert contents(found) == [(IMAGE, "What is <image> in <|image_pad|>?")]


@pytest.mark.parametrize(("count", "text"), [(1, "<image><image>"), (3, "<image> and <image>"), (0, "<|image|>")])
def test_counts_that_differ_are_refused_with_the_record_named(count: int, text: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(chat(text, id="x", images=[f"{i}.png" for i in range(count)]))
    assert caught.value.code == "conversation.image_count"
    assert "record 3 (id 'x')" in str(caught.value)
