"""Tests of conversations from records: every accepted form gives the one it means, any other a reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_lit.data.conversations.conversations import check_unique_ids, to_conversation
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Record, Turn

ROOT = Path("/set")
Fields = dict[str, Any]


def _record(fields: Fields, index: int = 3) -> Record:
    return Record(file=ROOT / "data.json", index=index, fields=fields, image_root=ROOT)


def _read(fields: Fields, *, requires_answer: bool = True, **options: Any) -> Conversation:
    return to_conversation(_record(fields), requires_answer=requires_answer, **options)


def _contents(conversation: Conversation) -> list[tuple[str, tuple[object, ...]]]:
    return [(turn.role, turn.content) for turn in conversation.turns]


def _llava(*turns: tuple[object, object], **fields: object) -> Fields:
    return {"conversations": [{"from": role, "value": value} for role, value in turns], **fields}


def _chat(*turns: tuple[object, object], **fields: object) -> Fields:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **fields}


def _question(answers: object = ("red",), **fields: object) -> Fields:
    return {"question": "Which colour?", "answers": answers, **fields}


TEXT = {"type": "text", "text": "What?"}
SLOT = {"type": "image"}
GPT = ("gpt", "A cat.")
SAYS = ("assistant", "A cat.")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("<image>\nWhat?", (IMAGE, "What?")),
        ("What?\n<image>", ("What?", IMAGE)),
        ("What?\n<image>\n", ("What?", IMAGE)),
        ("<image>What?", (IMAGE, "What?")),
        ("<image>\r\nWhat?", (IMAGE, "What?")),
        ("<image>\n\nWhat?", (IMAGE, "\nWhat?")),
        ("First\n<image>\nthen", ("First\n", IMAGE, "then")),
        ("<image>", (IMAGE,)),
        ("What?", (IMAGE, "What?")),
    ],
    ids=repr,
)
def test_llava_placeholders_become_slots(value: str, content: tuple[object, ...]) -> None:
    conversation = _read(_llava(("human", value), GPT, image="a.png"))
    assert _contents(conversation) == [("user", content), ("assistant", ("A cat.",))]
    assert conversation.images == (ImageRef(path=ROOT / "a.png"),)


def test_llava_with_several_images_and_turns() -> None:
    turns = [
        ("system", "Be brief."),
        ("human", "<image>\n<image>\nSame?"),
        ("gpt", "No."),
        ("human", "<image>And?"),
        GPT,
    ]
    conversation = _read(_llava(*turns, id="x", image=["a.png", "b.png", "c/d.png"]))
    assert _contents(conversation) == [
        ("system", ("Be brief.",)),
        ("user", (IMAGE, IMAGE, "Same?")),
        ("assistant", ("No.",)),
        ("user", (IMAGE, "And?")),
        ("assistant", ("A cat.",)),
    ]
    assert [ref.path for ref in conversation.images] == [ROOT / "a.png", ROOT / "b.png", ROOT / "c/d.png"]
    assert (conversation.id, conversation.references, conversation.image_id) == (
        "x",
        ("A cat.",),
        "a.png b.png c/d.png",
    )
    assert (conversation.file, conversation.record) == (ROOT / "data.json", "3 (id 'x')")


def test_llava_without_an_image() -> None:
    conversation = _read(_llava(("user", "Hello"), ("assistant", "An <image> tag is text here.")))
    assert conversation.images == ()
    assert conversation.image_id is None
    assert conversation.turns[1].content == ("An <image> tag is text here.",)


def test_images_without_a_place_go_before_the_first_user_turn() -> None:
    fields = _llava(
        ("system", "S"), ("human", "Q"), ("gpt", "A"), ("human", "Q"), ("gpt", "A"), images=["a.png", "b.png"]
    )
    assert _read(fields).turns[1].content == (IMAGE, IMAGE, "Q")
    assert _read(fields).turns[3].content == ("Q",)
    assert _read(_chat(("user", "Q"), SAYS, images=["a.png"])).turns[0].content == (IMAGE, "Q")


def test_messages_of_plain_text_keep_a_typed_placeholder() -> None:
    conversation = _read(_chat(("system", "S"), ("user", "What is <image>\nhere?"), SAYS))
    assert _contents(conversation) == [
        ("system", ("S",)),
        ("user", ("What is <image>\nhere?",)),
        ("assistant", ("A cat.",)),
    ]


def test_messages_take_the_records_images_in_order() -> None:
    turns = [("user", [SLOT, TEXT, SLOT]), ("assistant", [{"type": "text", "text": "No."}]), ("user", [SLOT]), SAYS]
    conversation = _read(_chat(*turns, images=["a.png", b"bytes", "c.png"]))
    assert conversation.turns[0].content == (IMAGE, "What?", IMAGE)
    assert conversation.turns[2].content == (IMAGE,)
    assert [ref.path or ref.data for ref in conversation.images] == [ROOT / "a.png", b"bytes", ROOT / "c.png"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png", "text": None, "image": None},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "a.png"}, "text": None},
    ],
    ids=str,
)
def test_a_parts_own_image_comes_before_the_records(part: Fields) -> None:
    conversation = _read(_chat(("user", [part, SLOT, TEXT]), SAYS, image="b.png"))
    assert [ref.path for ref in conversation.images] == [ROOT / "a.png", ROOT / "b.png"]


@pytest.mark.parametrize("url", ["data:image/png;base64,Ynl0ZXM=", "DATA:image/jpeg;name=a.jpg;base64,Ynl0\nZXM="])
def test_a_messages_picture_may_be_held_in_its_address(url: str) -> None:
    conversation = _read(_chat(("user", [TEXT, {"type": "image_url", "image_url": {"url": url}}]), SAYS))
    assert _contents(conversation)[0] == ("user", ("What?", IMAGE))
    assert [ref.data for ref in conversation.images] == [b"bytes"]


def test_a_question_becomes_two_turns() -> None:
    conversation = _read(
        _question(image="a.png", answer_type="other", question_type="what", image_id=7, question_id=70)
    )
    assert _contents(conversation) == [("user", (IMAGE, "Which colour?")), ("assistant", ("red",))]
    assert (conversation.id, conversation.image_id, conversation.references) == ("70", "7", ("red",))
    assert conversation.groups == {"answer_type": "other", "question_type": "what"}


@pytest.mark.parametrize(
    ("fields", "target", "references"),
    [
        ({"answers": ["b", "a", "a", "b"]}, "b", ("b", "a", "a", "b")),
        ({"answers": ["b", "a", "a"]}, "a", ("b", "a", "a")),
        ({"answers": "one"}, "one", ("one",)),
        ({"answer": "one"}, "one", ("one",)),
        ({"answers": None, "answer": "one"}, "one", ("one",)),
        ({"label": ["14"]}, "14", ("14",)),
        ({"multiple_choice_answer": "x"}, "x", ("x",)),
        ({"answers": ["a", "a", "b"], "multiple_choice_answer": "b"}, "b", ("a", "a", "b")),
        (
            {"answers": [{"answer": w, "answer_confidence": "yes", "answer_id": i} for i, w in enumerate("xyy")]},
            "y",
            ("x", "y", "y"),
        ),
        ({"answers": [{"answer": "x", "count": 1}, {"answer": "y", "count": 2.0}]}, "y", ("x", "y", "y")),
        ({"answers": [{"answer": "x"}, {"answer": "y", "votes": 2}]}, "y", ("x", "y", "y")),
        ({"answers": [{"answer": "x", "count": None}, {"answer": "y", "n": 1}]}, "x", ("x", "y")),
        ({"answers": [{"answer": w, "weight": 0.5, "score": 1, "annotator": w} for w in "xyy"]}, "y", ("x", "y", "y")),
        ({"answer": "N/A"}, "N/A", ("N/A",)),
        ({"answer": "..."}, "...", ("...",)),
        ({"answer": "My TODO list"}, "My TODO list", ("My TODO list",)),
    ],
    ids=str,
)
def test_answers_give_target_and_references(fields: Fields, target: str, references: tuple[str, ...]) -> None:
    conversation = _read({"question": "Q", **fields})
    assert conversation.turns[-1] == Turn(role="assistant", content=(target,))
    assert conversation.references == references


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ([{"weight": 0.3}, {"weight": 1.0}], "answers differ in 'weight', which is not read"),
        ([{"score": 0.1}, {}], "answers differ in 'score', which is not read"),
        ([{"count": 0}, {"count": 9}], "'count' of an answer is 0, no whole number from 1"),
        ([{"count": 0.5}, {"count": 9}], "'count' of an answer is 0.5, no whole number"),
        ([{"frequency": "9"}, {}], "'frequency' of an answer is '9', no whole number"),
        ([{"votes": True}, {}], "'votes' of an answer is True, no whole number"),
        ([{"count": 2, "votes": 3}, {}], "'count' and 'votes' count an answer differently"),
        ([{"n": 1}, {"n": 1000}], "1,001 answers are counted, and 1,000 at most are read"),
    ],
    ids=str,
)
def test_counts_that_no_number_of_answers_follows_from_are_refused(counts: list[Fields], problem: str) -> None:
    answers = [{"answer": word, **count} for word, count in zip(("mesh", "net"), counts, strict=True)]
    with pytest.raises(RecordError, match=re.escape(problem)) as caught:
        _read(_question(answers))
    assert caught.value.code == "conversation.value"
    assert "Write each answer as often as it was given." in caught.value.remedy
    ignored = {key for count in counts for key in count}
    assert _read(_question(answers), ignore_keys=ignored).references == ("mesh", "net")


def test_references_of_turns_are_the_answers_else_the_last_words() -> None:
    assert _read(_llava(("human", "Q"), GPT)).references == ("A cat.",)
    assert _read(_llava(("human", "Q"), GPT, answers=["cat", "a cat"])).references == ("cat", "a cat")
    assert _read(_chat(("user", "Q")), requires_answer=False).references == ()


@pytest.mark.parametrize("answers", [None, "", ["", ""], "[ANNOTATE: colour]"], ids=repr)
def test_an_answer_not_needed_may_be_absent_or_blank(answers: object) -> None:
    conversation = _read(_question(answers), requires_answer=False)
    assert [turn.role for turn in conversation.turns] == ["user"]
    assert conversation.references == ()


def test_an_answer_not_needed_is_kept() -> None:
    assert _read(_question(), requires_answer=False) == _read(_question())


def test_the_prompt_is_filled_in() -> None:
    fields = _question(image="a.png", hint="{question}", n=3)
    conversation = _read(fields, prompt="{hint} {{n}}={n}: {question}\nAnswer with one word.")
    assert conversation.turns[0].content == (IMAGE, "{question} {n}=3: Which colour?\nAnswer with one word.")


PRODUCT: Fields = {"Product Name": "Mug", "Category": "Kitchen", "description": "A mug.", "image": "a.png"}
PRODUCT_PROMPT = "Describe {Product Name} ({Category})."


def _product(**changed: object) -> Record:
    fields = {"answer" if key == "description" else key: value for key, value in {**PRODUCT, **changed}.items()}
    return _record(fields)


def test_a_prompt_over_other_fields_needs_no_question() -> None:
    conversation = to_conversation(_product(), prompt=PRODUCT_PROMPT, requires_answer=True)
    asked = ("user", (IMAGE, "Describe Mug (Kitchen)."))
    assert _contents(conversation) == [asked, ("assistant", ("A mug.",))]
    assert conversation.references == ("A mug.",)
    unanswered = to_conversation(_product(description=None), prompt=PRODUCT_PROMPT, requires_answer=False)
    assert _contents(unanswered) == [asked]


@pytest.mark.parametrize(
    ("changed", "prompt", "code"),
    [
        ({}, None, "conversation.form"),
        ({}, "{question}", "conversation.form"),
        ({"description": None}, PRODUCT_PROMPT, "conversation.no_answer"),
        ({"description": "  "}, PRODUCT_PROMPT, "conversation.blank_answer"),
        ({"Category": None}, PRODUCT_PROMPT, "conversation.prompt_empty"),
        ({"Category": ""}, PRODUCT_PROMPT, "conversation.prompt_empty"),
        ({"Category": float("nan")}, PRODUCT_PROMPT, "conversation.prompt_empty"),
        ({"Category": float("-inf")}, PRODUCT_PROMPT, "conversation.prompt_empty"),
    ],
    ids=str,
)
def test_a_record_that_a_prompt_cannot_ask_about_is_refused(changed: Fields, prompt: str | None, code: str) -> None:
    with pytest.raises(RecordError) as caught:
        to_conversation(_product(**changed), prompt=prompt, requires_answer=True)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("category", "said"),
    [
        (None, "none given"),
        ("", "none given"),
        (float("nan"), "none given"),
        (float("inf"), "none given"),
        ("Kitchen", "Kitchen"),
        (0, "0"),
        (0.5, "0.5"),
    ],
    ids=repr,
)
def test_a_prompt_may_say_what_stands_for_an_empty_field(category: object, said: str) -> None:
    conversation = to_conversation(_product(Category=category), prompt="{Category|none given}", requires_answer=True)
    assert conversation.turns[0].content == (IMAGE, said)


def test_a_field_may_have_a_bar_in_its_name() -> None:
    assert _read({"a|b": "x", "answer": "y"}, prompt="{a|b}").turns[0].text == "x"


def test_the_system_turn_is_added_where_there_is_none() -> None:
    assert _contents(_read(_question(), system="Be brief."))[0] == ("system", ("Be brief.",))
    assert _contents(_read(_llava(("system", "Own."), ("human", "Q"), GPT), system="Be brief."))[0] == (
        "system",
        ("Own.",),
    )


def test_group_fields_name_further_groups() -> None:
    assert _read(_question(chart="bar", year=2020), group_fields=["chart", "year"]).groups == {
        "chart": "bar",
        "year": "2020",
    }


def test_a_record_without_an_id_is_called_by_its_index() -> None:
    assert to_conversation(_record(_question(), index=12), requires_answer=True).id == "12"
    assert _read(_question(id=5, question_id=6)).id == "5"


BAD: dict[str, tuple[Fields, str]] = {
    "no keys": ({}, "conversation.form"),
    "other keys": ({"text": "x", "target": "y"}, "conversation.form"),
    "two forms": ({**_llava(("human", "Q"), GPT), **_chat(("user", "Q"), SAYS)}, "conversation.ambiguous"),
    "image and images": (_question(image="a.png", images=["b.png"]), "conversation.ambiguous"),
    "turns are a string": ({"conversations": "Hello"}, "conversation.turns_type"),
    "turns are an object": ({"messages": {"role": "user"}}, "conversation.turns_type"),
    "no turns": ({"conversations": []}, "conversation.no_turns"),
    "a turn is a string": ({"conversations": ["Hello"]}, "conversation.turn_type"),
    "a turn is null": ({"messages": [None]}, "conversation.turn_type"),
    "a turn without words": ({"conversations": [{"from": "human"}]}, "conversation.turn_keys"),
    "a turn without a role": ({"messages": [{"value": "Q"}]}, "conversation.turn_keys"),
    "a turn of two roles": ({"messages": [{"from": "human", "role": "user", "value": "Q"}]}, "conversation.ambiguous"),
    "unknown role": (_llava(("narrator", "Q"), GPT), "conversation.role"),
    "tool role": (_chat(("user", "Q"), ("tool", "{}")), "conversation.role"),
    "role is a number": (_chat((1, "Q"), SAYS), "conversation.role"),
    "value is a number": (_llava(("human", 7), GPT), "conversation.value"),
    "value is null": (_llava(("human", "Q"), ("gpt", None)), "conversation.value"),
    "content is null": (_chat(("user", None), SAYS), "conversation.value"),
    "content is an object": (_chat(("user", {"text": "Q"}), SAYS), "conversation.value"),
    "text part without text": (_chat(("user", [{"type": "text"}]), SAYS), "conversation.value"),
    "part of a strange type": (_chat(("user", [{"type": "video"}]), SAYS), "conversation.part_type"),
    "part is a string": (_chat(("user", ["Q"]), SAYS), "conversation.part_type"),
    "image by the assistant": (_chat(("user", "Q"), ("assistant", [SLOT]), image="a.png"), "conversation.image_role"),
    "two user turns": (_llava(("human", "Q"), ("human", "Q"), GPT), "conversation.order"),
    "two assistant turns": (_llava(("human", "Q"), GPT, GPT), "conversation.order"),
    "assistant first": (_llava(GPT, ("human", "Q"), GPT), "conversation.first_turn"),
    "assistant after system": (_chat(("system", "S"), SAYS), "conversation.first_turn"),
    "system alone": (_chat(("system", "S")), "conversation.first_turn"),
    "system in the middle": (_chat(("user", "Q"), ("system", "S"), SAYS), "conversation.system_position"),
    "two system turns": (_chat(("system", "S"), ("system", "S"), ("user", "Q"), SAYS), "conversation.system_position"),
    "user last": (_llava(("human", "Q"), GPT, ("human", "Q")), "conversation.no_answer"),
    "question without answer": ({"question": "Q"}, "conversation.no_answer"),
    "empty list of answers": (_question([]), "conversation.no_answer"),
    "empty user turn": (_llava(("human", ""), GPT), "conversation.empty_turn"),
    "blank user turn": (_chat(("user", [{"type": "text", "text": " \n"}]), SAYS), "conversation.empty_turn"),
    "empty system turn": (_chat(("system", ""), ("user", "Q"), SAYS), "conversation.empty_turn"),
    "empty question": ({"question": " ", "answer": "x", "image": "a.png"}, "conversation.empty_turn"),
    "empty answer": (_llava(("human", "Q"), ("gpt", "")), "conversation.blank_answer"),
    "blank answer": (_question(" \n "), "conversation.blank_answer"),
    "empty answer in the middle": (
        _llava(("human", "Q"), ("gpt", ""), ("human", "Q"), GPT),
        "conversation.blank_answer",
    ),
    "ANNOTATE": (_llava(("human", "Q"), ("gpt", "[ANNOTATE: what\nis it]")), "conversation.blank_answer"),
    "TODO": (_question(" TODO "), "conversation.blank_answer"),
    "TODO with words": (_chat(("user", "Q"), ("assistant", "TODO: describe")), "conversation.blank_answer"),
    "<answer>": (_question("<answer>"), "conversation.blank_answer"),
    "answer is a fraction": (_question(1.5), "conversation.value"),
    "answer is a truth value": (_question(True), "conversation.value"),
    "an answer is null": (_question(["a", None]), "conversation.value"),
    "answer objects without answer": (_question([{"text": "a"}]), "conversation.value"),
    "label is a boolean": ({"question": "Q", "label": True}, "conversation.value"),
    "multiple choice answer is a fraction": (_question(multiple_choice_answer=2.5), "conversation.value"),
    "question is a list": ({"question": ["Q"], "answer": "x"}, "conversation.value"),
    "half a surrogate pair": (_llava(("human", "\ud83d"), GPT), "conversation.surrogate"),
    "placeholder in a question without an image": (
        {**_question(), "question": "<image>\nQ"},
        "conversation.image_count",
    ),
    "more places than images": (_llava(("human", "<image><image>Q"), GPT, image="a.png"), "conversation.image_count"),
    "fewer places than images": (
        _llava(("human", "<image>Q"), GPT, images=["a.png", "b.png"]),
        "conversation.image_count",
    ),
    "a place and no image": (_llava(("human", "<image>Q"), GPT), "conversation.image_count"),
    "more parts than images": (_chat(("user", [SLOT, SLOT, TEXT]), SAYS, image="a.png"), "conversation.image_count"),
    "fewer parts than images": (_chat(("user", [SLOT, TEXT]), SAYS, images=["a", "b"]), "conversation.image_count"),
    "an image is a number": (_question(image=4), "image.type"),
    "a nested list of images": (_question(images=[["a.png"]]), "image.type"),
    "an image path that leads out": (_question(image="../a.png"), "path.outside_root"),
    "a blank image path": (_llava(("human", "Q"), GPT, image=" "), "path.empty"),
    "an image URL": (
        _chat(("user", [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, TEXT]), SAYS),
        "path.url",
    ),
    "id is a list": (_question(id=["a"]), "conversation.value"),
    "id is blank": (_question(id=" "), "conversation.value"),
    "image_id is a float": (_question(image="a.png", image_id=1.5), "conversation.value"),
}


@pytest.mark.parametrize(("fields", "code"), BAD.values(), ids=BAD)
def test_a_bad_record_is_refused(fields: Fields, code: str) -> None:
    with pytest.raises(RecordError) as caught:
        _read(fields)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{ROOT / 'data.json'}, record 3")
    assert caught.value.remedy.endswith(".")


@pytest.mark.parametrize(
    ("prompt", "code", "names"),
    [
        ("{query}", "conversation.prompt_field", "'query'"),
        ("{}", "conversation.prompt_field", "''"),
        ("{question.__class__}", "conversation.prompt_field", "__class__"),
        ("{answers[0]}", "conversation.prompt_field", "answers"),
        ("{answers}", "conversation.value", "'answers'"),
        ("{question!r}", "conversation.prompt_template", "'question'"),
        ("{question:>9}", "conversation.prompt_template", "'question'"),
        ("{question", "conversation.prompt_template", "{question"),
        ("{hint}", "conversation.prompt_empty", "'hint'"),
        ("{note}", "conversation.prompt_empty", "{note|"),
        ("{colour|none}", "conversation.prompt_field", "'colour'"),
        ("Answer with one word.", "conversation.prompt_question", "leaves out"),
        ("", "conversation.prompt_question", "leaves out"),
    ],
)
def test_a_bad_prompt_is_refused(prompt: str, code: str, names: str) -> None:
    with pytest.raises(RecordError) as caught:
        _read(_question(hint=" ", note=None), prompt=prompt)
    assert caught.value.code == code
    assert names in str(caught.value)


def test_a_prompt_for_written_turns_is_refused() -> None:
    with pytest.raises(RecordError) as caught:
        _read(_llava(("human", "Q"), GPT), prompt="{question}")
    assert caught.value.code == "conversation.prompt_unused"


def test_a_missing_group_field_is_refused() -> None:
    with pytest.raises(RecordError, match="'colour'") as caught:
        _read(_question(), group_fields=["colour"])
    assert caught.value.code == "conversation.group_field"


def test_messages_say_what_was_found_and_what_to_do() -> None:
    with pytest.raises(RecordError, match=r"'text', 'target'.*conversations.*messages.*question"):
        _read({"text": "x", "target": "y"})
    with pytest.raises(RecordError, match=r"1 places .* and 2 images"):
        _read(_llava(("human", "<image>Q"), GPT, images=["a.png", "b.png"]))


def test_equal_ids_are_refused_with_both_records() -> None:
    made = [
        to_conversation(_record(_question(id=name), index), requires_answer=True) for index, name in enumerate("abca")
    ]
    check_unique_ids(made[:3])
    with pytest.raises(RecordError, match=r"record 3 \(id 'a'\).*record 0 \(id 'a'\)") as caught:
        check_unique_ids(made)
    assert caught.value.code == "conversation.duplicate_id"


WORDS = st.sampled_from(["", " ", "<image>", "<image>\nWhat?", "cat", "TODO", "../x", "a.png", "\ud800"]) | st.text(
    max_size=8
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.binary(max_size=4)
KEYS = st.sampled_from(
    ["from", "value", "role", "content", "type", "text", "image", "image_url", "bytes", "path", "answer"]
)
ROLES = st.sampled_from(["user", "human", "gpt", "assistant", "system", "image", "text", 1])
VALUES = st.recursive(
    LEAVES | ROLES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
TURNS = st.lists(
    st.fixed_dictionaries({"from": ROLES, "value": WORDS | VALUES})
    | st.fixed_dictionaries({"role": ROLES, "content": WORDS | VALUES}),
    max_size=4,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "conversations": TURNS | VALUES,
        "messages": TURNS | VALUES,
        "question": WORDS | VALUES,
        "answers": WORDS | VALUES,
        "multiple_choice_answer": WORDS | VALUES,
        "image": WORDS | VALUES,
        "images": st.lists(WORDS, max_size=3) | VALUES,
        "id": VALUES,
        "image_id": VALUES,
        "answer_type": VALUES,
    },
)


SOUND: list[Fields] = [
    _llava(("system", "S"), ("human", "<image>Q"), GPT, ("human", "Q"), GPT, image="a.png", id=1),
    _chat(("user", [SLOT, TEXT, {"type": "image", "image": "b.png"}]), SAYS, images=["a.png"], answers=["cat"]),
    _question([{"answer": "red"}, {"answer": "blue"}], image={"bytes": b"x", "path": None}, answer_type="other"),
]


def _changed(value: object, draw: st.DrawFn) -> object:
    """`value` with one thing somewhere in it replaced, or left out."""
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(WORDS | VALUES)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = draw(st.sampled_from(places))
    copied: Any = value.copy()
    if draw(st.integers(0, 5)) == 0:
        del copied[place]
    else:
        copied[place] = _changed(copied[place], draw)
    return copied


@st.composite
def almost_sound(draw: st.DrawFn) -> Fields:
    fields: object = draw(st.sampled_from(SOUND))
    for _ in range(draw(st.integers(0, 2))):
        fields = _changed(fields, draw)
    return fields if isinstance(fields, dict) else {"question": fields}


@given(
    fields=RECORDS | almost_sound(),
    requires_answer=st.booleans(),
    prompt=st.none() | WORDS | st.just("{question} {id}"),
)
@settings(max_examples=200, deadline=None)
def test_any_record_gives_a_conversation_or_a_reason(fields: Fields, requires_answer: bool, prompt: str | None) -> None:
    try:
        made = _read(fields, requires_answer=requires_answer, prompt=prompt)
    except RecordError:
        return
    slots = [part for turn in made.turns for part in turn.content if not isinstance(part, str)]
    assert len(slots) == len(made.images)
    roles = [turn.role for turn in made.turns if turn.role != "system"]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    assert not requires_answer or made.turns[-1].text.strip()
    assert made.id.strip()
