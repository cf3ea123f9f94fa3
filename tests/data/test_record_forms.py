"""Tests of the accepted forms of records: each gives the conversation that it means."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, Record

ROOT = Path("/set")
Fields = dict[str, Any]


def read(fields: Fields, **options: Any) -> Conversation:
    record = Record(file="a.json", index=3, fields=fields, image_root=ROOT)
    return to_conversation(record, **{"requires_answer": True, **options})


def said(conversation: Conversation) -> list[tuple[object, ...]]:
    return [(turn.role, *turn.content) for turn in conversation.turns]


ASKED = [("user", IMAGE, "What?"), ("assistant", "a box")]
USER, BOX = {"role": "user", "content": "What?"}, {"role": "assistant", "content": "a box"}
ASSISTANTS = ["assistant", "GPT", "Assistant", "model", "bot", "ChatBot", "chatgpt", "AI"]
HUMAN, GPT = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a box"}

SAME: dict[str, Fields] = {
    "texts": {"images": ["a.png"], "texts": [{"user": "What?", "assistant": "a box", "source": "x"}]},
    "prompt and completion, messages": {"prompt": [USER], "completion": [BOX], "images": ["a.png"]},
    "prompt and completion, text": {"prompt": "What?", "completion": "a box", "image": "a.png"},
    "a prompt of messages, a completion of text": {"prompt": [USER], "completion": "a box", "image": "a.png"},
    "chat keys under conversations": {"conversations": [USER, BOX], "image": "a.png"},
    "conversation": {"conversation": [USER, BOX], "image": "a.png"},
    "LLaVA keys under messages": {"messages": [HUMAN, GPT], "image": "a.png"},
    "query and response": {"query": "<image>What?", "response": "a box", "images": ["a.png"]},
    "query and label": {"query": "What?", "label": ["a box"], "image": "a.png"},
    "instruction and output": {"instruction": "What?", "input": "", "output": "a box", "image": "a.png"},
    "prefix and suffix": {"prefix": "What?", "suffix": "a box", "image": "a.png"},
    "question and response": {"question": "What?", "response": "a box", "image": "a.png"},
    "turns as JSON text": {"messages": json.dumps([USER, BOX]), "image": "a.png"},
    "LLaVA's turns as JSON text": {"conversations": json.dumps([HUMAN, GPT]), "image": "a.png"},
    "prompt and completion as JSON text": {
        "prompt": json.dumps([USER]),
        "completion": json.dumps([BOX]),
        "image": "a.png",
    },
    "a prompt as JSON text, a completion of text": {
        "prompt": json.dumps([USER]),
        "completion": "a box",
        "image": "a.png",
    },
    "a completion of one turn as JSON text": {"prompt": [USER], "completion": json.dumps(BOX), "image": "a.png"},
    "images as JSON text": {"messages": [USER, BOX], "images": '["a.png"]'},
    "images as Python's text": {"messages": [USER, BOX], "images": "['a.png']"},
    "POPE's file": {"question_id": 1, "image": "a.png", "text": "What?", "label": "a box"},
    "file_name": {"file_name": "a.png", "question": "What?", "answer": "a box"},
    "image_path": {"image_path": "a.png", "messages": [USER, BOX]},
    "the name beside the image": {"image": "a.png", "file_name": "b.png", "messages": [USER, BOX]},
    "an address": {"image": {"url": "a.png"}, "messages": [USER, BOX]},
    "MiniCPM-V's images": {"image": {"<image_00>": "a.png"}, "messages": [{**USER, "content": "<image_00>What?"}, BOX]},
    "backslashes": {"image": ".\\b\\..\\a.png", "messages": [USER, BOX]},
    "parts with value": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "value": "a.png"}, {"type": "text", "value": "What?"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "a box"}]},
        ]
    },
    "parts of the responses API": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "a.png"}, {"type": "input_text", "text": "What?"}],
            },
            {"role": "assistant", "content": [{"type": "output_text", "text": "a box"}]},
        ]
    },
    "parts without a type": {"messages": [{"role": "user", "content": [{"image": "a.png"}, {"text": "What?"}]}, BOX]},
    "an image part with an address": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": {"url": "a.png"}}, {"text": "What?"}]},
            BOX,
        ]
    },
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_forms_of_one_question(fields: Fields) -> None:
    found = read(fields)
    assert said(found) == ASKED
    assert [image.path for image in found.images] == [ROOT / "a.png"]
    assert found.references == ("a box",)
    assert found.notes == ()


@pytest.mark.parametrize("name", ASSISTANTS)
def test_the_assistant_has_many_names(name: str) -> None:
    assert said(read({"messages": [{"role": "Human", "content": "What?"}, {"role": name, "content": "a box"}]})) == [
        ("user", "What?"),
        ("assistant", "a box"),
    ]


def test_texts_are_turns_one_after_the_other() -> None:
    texts = [{"user": "A?", "assistant": "a"}, {"user": "B?", "assistant": "b"}]
    assert said(read({"images": ["a.png"], "texts": texts})) == [
        ("user", IMAGE, "A?"),
        ("assistant", "a"),
        ("user", "B?"),
        ("assistant", "b"),
    ]


@pytest.mark.parametrize(
    "earlier",
    [
        *({"role": name, "content": "a box"} for name in (*ASSISTANTS, "assistant ")),
        {"from": "gpt", "value": "a box"},
        {"role": None, "from": "gpt", "content": "a box"},
        {**BOX, "train": None},
        {**BOX, "weight": 0, "train": None},
        {**BOX, "train": False},
    ],
    ids=str,
)
def test_of_a_prompt_of_messages_only_the_completion_is_learned(earlier: Fields) -> None:
    turns = [USER, earlier, {"role": "user", "content": "Sure?", "train": None}]
    found = read({"prompt": turns, "completion": [{"role": "assistant", "content": "yes"}]})
    assert [turn.supervised for turn in found.turns if turn.role == "assistant"] == [False, True]


def test_a_system_message_of_a_later_text_is_not_read_past() -> None:
    first, second = {"user": "A?", "assistant": "a"}, {"user": "B?", "assistant": "b"}
    for texts in (
        [first, {**second, "system": "Be brief."}],
        [{**first, "system": "Be long."}, {**second, "system": "Be brief."}],
    ):
        with pytest.raises(RecordError) as caught:
            read({"texts": texts})
        assert caught.value.code == "conversation.system_position"
    same = [{**pair, "system": "Be brief."} for pair in (first, second)]
    assert [turn.role for turn in read({"texts": same}).turns] == ["system", *["user", "assistant"] * 2]


def test_keys_of_a_text_without_an_answer_are_not_read_past() -> None:
    def asked(**more: object) -> Conversation:
        return read({"texts": [{"user": "A?", "assistant": "a"}, {"user": "B?", **more}]}, requires_answer=False)

    assert [note.about for note in asked(mood="calm", weight=1).notes] == ["mood of a turn"]
    with pytest.raises(RecordError, match="turn 2 has tool_calls"):
        asked(tool_calls=[{"id": 1}])


def test_an_earlier_answer_whose_own_flag_says_so_is_learned() -> None:
    turns = [USER, {**BOX, "train": True}, {"role": "user", "content": "Sure?"}]
    assert all(turn.supervised for turn in read({"prompt": turns, "completion": "yes"}).turns)


def test_an_instruction_and_its_input_are_joined() -> None:
    assert said(read({"instruction": "Translate.", "input": "Hut", "output": "hat"}))[0] == ("user", "Translate.\nHut")
    assert said(read({"instruction": "A", "input": "B", "output": "C"}, prompt="{question}!"))[0] == ("user", "A\nB!")


@pytest.mark.parametrize(
    "history", [[["A?", "a"]], '[["A?", "a"]]', [{"role": "user", "content": "A?"}, {"role": "gpt", "content": "a"}]]
)
def test_history_is_earlier_turns(history: object) -> None:
    found = read({"query": "<image>B?", "response": "b", "history": history, "image": "a.png", "system": "Be brief."})
    assert said(found) == [
        ("system", "Be brief."),
        ("user", "A?"),
        ("assistant", "a"),
        ("user", IMAGE, "B?"),
        ("assistant", "b"),
    ]


@pytest.mark.parametrize("key", ["system", "system_prompt", "system_message"])
def test_the_records_system_message_is_stronger_than_the_settings(key: str) -> None:
    for fields in ({"messages": [USER, BOX]}, {"question": "What?", "answer": "a box"}, {"conversations": [USER, BOX]}):
        found = read({**fields, key: "Be brief."}, system="Be long.")
        assert said(found)[0] == ("system", "Be brief.")
        assert found.notes == ()


def test_a_caption_answers_the_picture_alone() -> None:
    found = read({"file_name": "a.png", "text": "a box"})
    assert said(found) == [("user", IMAGE), ("assistant", "a box")]
    asked = read({"image": "a.png", "caption": "a box"}, prompt="Describe it.")
    assert said(asked) == [("user", IMAGE, "Describe it."), ("assistant", "a box")]


def test_a_text_with_a_questions_id_is_the_question() -> None:
    fields = {"question_id": 0, "image": "a.png", "text": "What?", "category": "conv"}
    with pytest.raises(RecordError) as caught:
        read(fields)
    assert caught.value.code == "conversation.no_answer"
    record = Record(file="a.json", index=0, fields=fields, image_root=ROOT)
    found = to_conversation(record, prompt="{question}\nBriefly.", requires_answer=False)
    assert (found.turns[0].content, found.notes) == ((IMAGE, "What?\nBriefly."), ())
    assert said(read(fields, prompt="Describe it."))[1] == ("assistant", "What?")  # the template asks: the text answers
    assert said(read({**fields, "caption": "a box"})) == [("user", IMAGE), ("assistant", "a box")]


@pytest.mark.parametrize("value", ["", None, [], [""], {"bytes": None, "path": None}], ids=repr)
def test_nothing_is_no_image(value: object) -> None:
    found = read({"messages": [USER, BOX], "image": value})
    assert found.images == ()
    assert said(found)[0] == ("user", "What?")


def test_whole_numbers_are_answers() -> None:
    assert read({"question": "How many?", "answer": 3}).references == ("3",)
    assert read({"question": "How many?", "answers": [3, 3, 4]}).references == ("3", "3", "4")
    assert said(read({"conversations": [HUMAN, {"from": "gpt", "value": 3}], "image": "a.png"}))[1] == (
        "assistant",
        "3",
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_bare_base64_is_an_image(kind: str) -> None:
    buffer = BytesIO()
    Image.new("RGB", (9, 7), "navy").save(buffer, kind)
    text = base64.b64encode(buffer.getvalue()).decode()
    for value in (text, text[:40] + "\n" + text[40:], [text], {"bytes": text}):
        assert [image.data for image in read({"messages": [USER, BOX], "image": value}).images] == [buffer.getvalue()]
    source = {"type": "base64", "media_type": "image/png", "data": text}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]
    assert [image.data for image in read({"messages": [{"role": "user", "content": parts}, BOX]}).images] == [
        buffer.getvalue()
    ]


AMBIGUOUS: dict[str, tuple[Fields, str]] = {
    "two lists of turns": ({"messages": [USER, BOX], "texts": [{"user": "A", "assistant": "a"}]}, "messages and texts"),
    "turns and another question": ({"messages": [USER, BOX], "query": "A?", "response": "a"}, "messages and query"),
    "turns and history": ({"messages": [USER, BOX], "history": [["A?", "a"]]}, "messages and history"),
    "two questions": ({"question": "A?", "answer": "a", "query": "B?", "response": "b"}, "question and query"),
    "an instruction and a prefix": (
        {"instruction": "A", "output": "a", "prefix": "B", "suffix": "b"},
        "instruction and prefix",
    ),
    "two system messages": ({"messages": [USER, BOX], "system": "A", "system_prompt": "B"}, "system and system_prompt"),
    "a system key and a system turn": (
        {"messages": [{"role": "system", "content": "A"}, USER, BOX], "system": "B"},
        "two system messages",
    ),
    "two kinds of image": ({"messages": [USER, BOX], "file_name": "a.png", "img": "b.png"}, "file_name and img"),
}


@pytest.mark.parametrize(("fields", "named"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_two_forms_at_once_are_refused_by_name(fields: Fields, named: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(fields)
    assert caught.value.code == "conversation.ambiguous"
    assert named in caught.value.problem


@pytest.mark.parametrize("nothing", [[], [{"role": None, "content": None}], "", [{}]], ids=repr)
def test_an_empty_list_of_turns_is_no_second_form(nothing: object) -> None:
    forms: list[Fields] = [
        {"messages": nothing, "conversations": [USER, BOX]},
        {"texts": nothing, "prompt": [USER], "completion": [BOX]},
        {"messages": nothing, "question": "What?", "answer": "a box"},
    ]
    for fields in forms:
        found = read(fields)
        assert said(found) == [("user", "What?"), ("assistant", "a box")]
        assert found.notes == ()
    assert said(read({"conversations": nothing, "image": "a.png", "caption": "a box"}))[1] == ("assistant", "a box")


def test_turns_that_another_form_repeats_are_one_form() -> None:
    assert said(read({"messages": [USER, BOX], "question": "What?", "answer": "a box"})) == [
        ("user", "What?"),
        ("assistant", "a box"),
    ]


def test_turns_as_text_are_read_strictly() -> None:
    twice = '[{"role": "user", "content": "What?", "content": "Where?"}, {"role": "assistant", "content": "a box"}]'
    with pytest.raises(RecordError, match="the key 'content' stands twice in one object"):
        read({"messages": twice, "image": "a.png"})


@pytest.mark.parametrize(
    "text",
    [
        '[{"label": "box", "bbox_2d": [1, 2, 3, 4]}]',
        '[{"from": "Paris", "to": "London"}]',
        '{"role": "director"}',
        "[sic] a box",
        "[{'from': 'Paris', 'to': 'London'}]",
        "[]",
    ],
)
def test_json_of_another_kind_stays_words(text: str) -> None:
    asked = f"{text} What?"
    assert said(read({"prompt": asked, "completion": text})) == [("user", asked), ("assistant", text)]


@pytest.mark.parametrize(
    "prompt",
    [
        str([USER]),
        "[{'content': 'What?', 'role': 'User'}]",
        '[{"role": "user", "content": "Wh',
        '[{"role": "user", "content": "What?", "content": "Where?"}]',
    ],
)
def test_a_prompt_that_begins_as_turns_and_is_no_json_is_refused(prompt: str) -> None:
    with pytest.raises(RecordError, match="prompt is text that begins as a list of turns") as caught:
        read({"prompt": prompt, "completion": "a box"})
    assert caught.value.code == "conversation.turns_type"


def test_a_completion_of_turns_behind_a_prompt_of_text_is_refused_by_name() -> None:
    for completion in ([BOX], json.dumps([BOX])):
        with pytest.raises(RecordError, match=r"prompt or completion is 'What\?'.*Write both as lists of messages"):
            read({"prompt": "What?", "completion": completion})
