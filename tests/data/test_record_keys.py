"""Tests of record keys and placeholders: each is used, known to be harmless, named, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.conversations.record_keys import HARMLESS
from vlm_lit.data.conversations.turn_flags import FLAGS
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.findings import Findings, numbered_repeats
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, ImageSlot, Record

Fields = dict[str, Any]
TALK = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "a box"}]}
ASKED = {"question": "What?", "answer": "a box"}


def read(fields: Fields, **options: Any) -> Conversation:
    record = Record(file="a.json", index=3, fields=fields, image_root=Path("/set"))
    return to_conversation(record, requires_answer=True, **options)


def notes(conversation: Conversation) -> list[tuple[str, str]]:
    return [(note.kind, note.about) for note in conversation.notes]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("video", "a.mp4"),
        ("videos", ["a.mp4"]),
        ("audio", {"bytes": b"x", "path": None}),
        ("audios", ["a.wav"]),
        ("tools", [{"name": "f"}]),
        ("objects", {"ref": ["a"], "bbox": [[1, 2, 3, 4]]}),
        ("rejected", "a bin"),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("loss_scale", [0.5, 1.0]),
    ],
)
def test_keys_that_hold_input_are_refused_unless_empty_or_ignored(key: str, value: object) -> None:
    for fields in (TALK, ASKED):
        with pytest.raises(RecordError) as caught:
            read({**fields, key: value})
        assert caught.value.code == "conversation.key"
        assert f"ignore_keys: [{key}]" in caught.value.remedy
        assert notes(read({**fields, key: [] if isinstance(value, list) else None})) == []
        assert notes(read({**fields, key: value}, ignore_keys=[key])) == []


def test_a_key_of_no_use_is_named() -> None:
    assert notes(read({**ASKED, "hint": "h", "id": 4, "source": "x", "width": 3})) == [("unused", "hint")]
    assert notes(read({**ASKED, "hint": "h"}, prompt="{hint} {question}")) == []
    assert notes(read({**ASKED, "hint": "h"}, group_fields=["hint"])) == []
    assert notes(read({**ASKED, "hint": "h"}, known_keys=["hint"])) == []
    assert notes(read({**ASKED, "hint": ""})) == []


@pytest.mark.parametrize(
    "value",
    ["b.png", {"bytes": b"x", "path": None}, [{"role": "user", "content": "x"}], "see <image>", ["<|image_1|>"], b"x"],
    ids=str,
)
def test_a_key_that_looks_like_input_is_lost(value: object) -> None:
    assert notes(read({**ASKED, "scan": value})) == [("lost", "scan")]


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("image_id", 458752, "image_name: {image_id}.jpg"),
        ("image_id", "0054c91397f2fe05", "image_name: {image_id}.jpg"),
        ("imageId", "2354786", "image_name: {imageId}.jpg"),
        ("imageId", "a.png", "columns: {image: imageId}"),
        ("image_ids", ["a", "b"], "columns: {images: image_ids}"),
    ],
    ids=str,
)
def test_an_image_that_is_named_is_shown_or_the_record_is_refused(key: str, value: object, remedy: str) -> None:
    own = [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}, TALK["messages"][1]]
    for fields in (TALK, ASKED):
        with pytest.raises(RecordError, match=f"its {key} names an image") as caught:
            read({**fields, key: value})
        assert caught.value.code == "conversation.image_name"
        assert remedy in caught.value.remedy
        assert read({**fields, key: None}).images == read({**fields, key: value}, ignore_keys=[key]).images == ()
        for shown in ({"image": "a.png"}, {"image_1": b"one"}, {"file_name": "a.png"}):
            assert notes(read({**fields, **shown, key: value})) == []
    assert notes(read({"messages": own, key: value})) == []


def test_an_image_name_is_shown_where_nothing_else_is() -> None:
    own = [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}, TALK["messages"][1]]
    tagged = [{"role": "user", "content": "<img>a.png</img>What?"}, TALK["messages"][1]]
    name = {"image_name": "a.png"}
    others: list[Fields] = [
        TALK,
        ASKED,
        {"caption": "a box"},
        {"messages": own},
        {"messages": tagged},
        {**ASKED, "image": "set/a.png"},
        {**ASKED, "image_path": "a.png"},
        {**ASKED, "image_1": "a.png"},
    ]
    for fields in others:
        found = read({**fields, **name})
        assert ([ref.path.name for ref in found.images if ref.path], notes(found)) == (["a.png"], [])
    assert [ref.path for ref in read({**ASKED, "image_name": ["a.png", "b.png"]}).images] == [
        Path("/set/a.png"),
        Path("/set/b.png"),
    ]
    asked = read({"image_name": "Sunset", "answer": "dusk"}, prompt="When is {image_name}?")
    assert (asked.images, notes(asked)) == ((), [])
    assert notes(read({**ASKED, "image": "a.png", "image_name": "Sunset"})) == [("unused", "image_name")]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("img", "b.png", True),
        ("image_paths", ["b.png", "c.png"], True),
        ("image_paths", "['a.png', 'b.png']", True),
        ("image_name", "b.png", True),
        ("img", {"bytes": b"other"}, True),
        ("image_paths", "[broken", True),
        ("img", "/other/disk/a.png", False),
        ("image_path", "a", False),
        ("image_files", ["pictures\\a.png"], False),
        ("file_name", "b.png", False),
    ],
    ids=str,
)
def test_a_second_key_of_images_only_names_the_first_ones_or_is_named(key: str, value: object, said: bool) -> None:
    found = read({**ASKED, "image": "set/a.png", key: value})
    assert [ref.path for ref in found.images] == [Path("/set/set/a.png")]
    assert notes(found) == ([("lost", key)] if said else [])


def test_bytes_may_be_of_any_file_that_is_named_beside_them() -> None:
    for value, said in (("a.png", []), (["a.png"], []), (["a.png", "b.png"], [("lost", "image_paths")])):
        assert notes(read({**ASKED, "image": b"bytes", "image_paths": value})) == said


@pytest.mark.parametrize("key", ["key", "url", "source", "metadata", "extra"])
def test_a_harmless_key_with_input_in_it_is_lost(key: str) -> None:
    pictures: list[object] = ["https://x.org/a.png", {"image": "a.png"}, [{"bytes": b"x"}]]
    for value in pictures:
        assert notes(read({**ASKED, key: value})) == [("lost", key)]
        assert notes(read({**ASKED, key: value, "image": "b.png"})) == []
    turns: list[object] = [[TALK["messages"][0]], {"said": TALK["messages"]}]
    for value in turns:
        assert notes(read({**ASKED, key: value, "image": "b.png"})) == [("lost", key)]


def test_a_turns_keys_are_read_or_named_or_refused() -> None:
    turn = {"role": "assistant", "content": "a box"}
    assert notes(read({"messages": [TALK["messages"][0], {**turn, "mood": "calm", "name": "x"}]})) == [
        ("unused", "mood of a turn")
    ]
    assert notes(read({"messages": [TALK["messages"][0], {**turn, "prefix": False, "no_grad": False}]})) == [
        ("unused", "no_grad of a turn")
    ]
    for key, value in (("tool_calls", [{"id": 1}]), ("reasoning_content", "first ..."), ("images", ["a.png"])):
        with pytest.raises(RecordError) as caught:
            read({"messages": [TALK["messages"][0], {**turn, key: value}]})
        assert caught.value.code == "conversation.turn_key"
        assert key in caught.value.problem
        read({"messages": [TALK["messages"][0], {**turn, key: value}]}, ignore_keys=[key])
        read({"messages": [TALK["messages"][0], {**turn, key: None}]})


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_parts_that_are_written_as_text_are_named(role: str) -> None:
    text = '[{"type": "text", "text": "hello"}]'
    talk = [{**turn, "content": text} if turn["role"] == role else turn for turn in TALK["messages"]]
    assert notes(read({"messages": talk})) == [("text", f"a {role}'s words that begin as a list of parts stay text")]
    assert text in [turn.text for turn in read({"messages": talk}).turns]


CALLED = [TALK["messages"][0], {**TALK["messages"][1], "tool_calls": [{"id": 1}], "weight": 0}]
ASKED_BEFORE = {"query": "Sure?", "response": "yes"}
ANSWERED = {"prompt": TALK["messages"][:1], "completion": CALLED[1:]}


@pytest.mark.parametrize(
    ("key", "rest", "written"),
    [
        *((key, {}, json.dumps) for key in ("messages", "conversations", "conversation")),
        ("history", ASKED_BEFORE, json.dumps),
        ("completion", ANSWERED, json.dumps),
        ("messages", {}, tuple),
    ],
    ids=["messages", "conversations", "conversation", "history", "completion", "a tuple"],
)
def test_keys_of_turns_are_ignored_however_the_turns_are_written(key: str, rest: Fields, written: Any) -> None:
    fields = {**rest, key: written(CALLED[1:] if key == "completion" else CALLED)}
    with pytest.raises(RecordError, match="tool_calls"):
        read(fields)
    found = read(fields, ignore_keys=["tool_calls", "weight"])
    assert [turn.supervised for turn in found.turns if turn.text == "a box"] == [True]
    assert notes(found) == []


def test_a_json_answer_is_no_list_of_turns() -> None:
    answer = '[{"name": "box", "id": 1}]'
    assert read({"prompt": "What?", "completion": answer}, ignore_keys=["id"]).references == (answer,)


def test_turns_as_text_that_cannot_be_read_are_refused_with_keys_ignored_too() -> None:
    for fields in ({"messages": "[{"}, {**ASKED_BEFORE, "history": "[{"}):
        with pytest.raises(RecordError) as caught:
            read(fields, ignore_keys=["id"])
        assert caught.value.code == "conversation.turns_type"


def test_of_two_answer_keys_the_one_that_is_not_read_is_named() -> None:
    asked = {key: value for key, value in ASKED.items() if key not in ("answer", "answers")}
    assert notes(read({**asked, "answer": "a box", "label": "a lid"})) == [("unused", "label")]
    assert notes(read({**asked, "answers": ["a box"], "answer": "a lid"})) == [("unused", "answer")]
    assert notes(read({**asked, "answers": ["a box", "a lid"], "answer": "a lid"})) == []
    assert notes(read({**asked, "answers": [{"answer": "a box"}], "answer": "a box"})) == []
    assert notes(read({**asked, "answers": ["a box"], "multiple_choice_answer": "a lid"})) == []


@pytest.mark.parametrize("nothing", ["", [], ["", ""], None])
def test_an_empty_answer_key_is_not_read_in_place_of_one_that_holds_an_answer(nothing: object) -> None:
    asked = {key: value for key, value in ASKED.items() if key not in ("answer", "answers")}
    for key in ("answer", "label", "multiple_choice_answer"):
        found = read({**asked, "answers": nothing, key: "a lid"})
        assert (found.turns[-1].text, found.references, notes(found)) == ("a lid", ("a lid",), [])
    found = read({**asked, "answers": ["a box", "a box", "a lid"], "multiple_choice_answer": ""})
    assert (found.turns[-1].text, found.references) == ("a box", ("a box", "a box", "a lid"))


def test_scores_beside_answers_are_refused_unless_they_are_alike_or_ignored() -> None:
    asked = {key: value for key, value in ASKED.items() if key != "answer"} | {"answers": ["a box", "a lid"]}
    for key in ("weights", "scores", "answer_weights", "answer_scores"):
        with pytest.raises(RecordError, match=f"{key} gives each of its answers a score.*name {key} in ignore_keys"):
            read({**asked, key: [1, 0.3]})
        assert notes(read({**asked, key: [1.0, 1.0]})) == [("unused", key)]
        assert read({**asked, key: [1, 0.3]}, ignore_keys=[key]).references == ("a box", "a lid")


def test_an_image_that_is_none_is_refused_with_its_key() -> None:
    with pytest.raises(RecordError, match="image_path: ") as caught:
        read({**TALK, "image_path": 0})
    assert caught.value.code == "image.type"


KEYS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
VALUES = st.recursive(
    st.one_of(st.text("ab <>|", min_size=1, max_size=8), st.integers(), st.booleans(), st.just("pictures/a.png")),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2), st.dictionaries(KEYS, inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)


@given(key=KEYS, value=VALUES, base=st.sampled_from([TALK, ASKED]), place=st.sampled_from(["record", "turn"]))
def test_no_key_is_read_past(key: str, value: Any, base: Fields, place: str) -> None:
    """With the key the conversation says something else, or the key is named, refused or known to be harmless."""
    plain = read(base)
    fields: Fields = json.loads(json.dumps(base))
    target = fields if place == "record" or "messages" not in base else fields["messages"][1]
    assume(key not in target and key not in HARMLESS)
    target[key] = value
    try:
        found = read(fields)
    except RecordError as refused:
        if key not in str(refused):
            raise AssertionError(f"refused without naming {key}") from refused
        return
    named = any(note.about.split(" ")[0] == key for note in found.notes)
    blank = not str(value).strip("[]{}'\" ")
    used = (found.turns, found.id, found.image_id, found.groups, found.references, found.images, found.choices) != (
        plain.turns,
        plain.id,
        plain.image_id,
        plain.groups,
        plain.references,
        plain.images,
        plain.choices,
    )
    known = key in ("id", "name", "lang", "turn", "index", "model", "source", *FLAGS)
    assert named or used or blank or known


MARKERS = st.sampled_from(
    ["<image>", "<|image_pad|>", "<image_3>", "<picture>", "[IMG]", "<video>", "<|audio|>", "<start_of_image>", "<img>"]
)


@given(
    before=st.text("ab \n", max_size=4),
    marker=MARKERS,
    after=st.text("ab \n", min_size=1, max_size=4),
    images=st.integers(0, 2),
)
def test_no_placeholder_is_read_past(before: str, marker: str, after: str, images: int) -> None:
    assume((before + after).strip())
    talk = [{"role": "user", "content": f"{before}{marker}{after}"}, {"role": "assistant", "content": "x"}]
    try:
        found = read({"messages": talk, "images": [f"{i}.png" for i in range(images)]})
    except RecordError as refused:
        if "<image>" not in str(refused) and marker not in str(refused):
            raise AssertionError(f"refused without naming {marker}") from refused
        return
    slots = sum(isinstance(part, ImageSlot) for part in found.turns[0].content)
    assert slots == len(found.images) == images
    said = marker in found.turns[0].text
    assert not said or any(note.about.startswith(marker) for note in found.notes)


def test_findings_are_counted_and_said_once(tmp_path: Path) -> None:
    rows = [{**ASKED, "id": "same", "hint": "h", "scan": "b.png"}, {**ASKED, "id": "same", "hint": "h"}, ASKED]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    dataset = open_source(
        SourceSettings(path=str(path)), prompt=None, system=None, requires_answer=True, check_images=True
    )
    assert isinstance(dataset, ConversationDataset)
    lines = list(dataset.findings.lines())
    assert any("hint (2 of 3)" in line for line in lines)
    assert [line for line in dataset.findings.problems() if "scan (1 of 3)" in line]
    assert [conversation.id for conversation in (dataset[i] for i in range(3))] == ["same", "same#2", "2"]
    assert any("1 of 3 records have an id" in line for line in lines)


def test_in_an_evaluation_a_repeated_id_is_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{**ASKED, "id": "x"}, {**ASKED, "id": "x"}]), encoding="utf-8")
    options: Any = {"prompt": None, "system": None, "requires_answer": False, "check_images": True}
    with pytest.raises(RecordError, match="id_in_source: id"):
        open_source(SourceSettings(path=str(path)), **options)
    renamed = open_source(SourceSettings(path=str(path), columns={"id_in_source": "id"}), **options)
    assert isinstance(renamed, ConversationDataset)
    assert [renamed[i].id for i in range(2)] == ["0", "1"]
    assert list(renamed.findings.lines()) == []


def test_repeats_take_free_numbers() -> None:
    assert numbered_repeats(["a", "a#2", "a", "a", "b"]) == {2: "a#3", 3: "a#4"}
    assert list(Findings().lines()) == []
