"""Tests of multiple-choice options: shown with their letters, and the right letter found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Record

PROMPT = "{question}\n{choices}"


def read(prompt: str = PROMPT, **fields: Any) -> Conversation:
    whole = {"question": "Which?", "choices": ["red", "blue"], **fields}
    record = Record(file=Path("data.json"), index=3, fields=whole, image_root=None)
    return to_conversation(record, prompt=prompt, requires_answer=False)


@pytest.mark.parametrize("index", [1, "1", 1.0, "1.0"])  # the last two: a table with empty cells writes so
def test_options_have_letters_and_the_answer_is_one(index: float | str) -> None:
    conversation = read(answer_index=index)
    assert [turn.text for turn in conversation.turns] == ["Which?\nA. red\nB. blue", "B"]
    assert conversation.references == ("B",)


@pytest.mark.parametrize(
    "fields",
    [
        {"answer_index": 2},
        {"answer_index": -1},
        {"answer_index": "B"},
        {"answer_index": True},
        {"answer_index": 1.5},
        {"answer_index": "1.5"},
        {"answer_index": float("nan")},
        {"answer_index": 0, "choices": None},
        {"answer_index": 0, "choices": "red"},
        {"answer_index": 26, "choices": ["red"] * 27},
    ],
    ids=str,
)
def test_an_index_of_no_choice_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="count from 0") as caught:
        read("{question}", **fields)
    assert caught.value.code == "conversation.answer_index"
    assert str(caught.value).startswith("data.json, record 3")


def test_a_record_without_an_index_keeps_its_answers() -> None:
    assert read(answer="red").references == ("red",)
    assert read(answer="red", answer_index=1).references == ("red",)
    assert read().references == ()
    assert read(answer_index=None).references == ()


def test_more_options_than_letters_are_refused() -> None:
    assert read(choices=["red"] * 26).turns[0].text.endswith("\nZ. red")
    with pytest.raises(RecordError, match="27 choices") as caught:
        read(choices=["red"] * 27)
    assert caught.value.code == "conversation.choices"


def test_other_lists_stand_in_a_prompt_with_commas() -> None:
    assert read("{question} {words}", words=["red", "two"]).turns[0].text == "Which? red, two"
    assert read("{question} {words|none}", words=[]).turns[0].text == "Which? none"


def test_lists_of_anything_but_text_are_refused() -> None:
    with pytest.raises(RecordError, match="entry 1 of the field 'words'"):
        read("{question} {words}", words=["red", 2])


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        ([10, 2.5, "x"], ("10", "2.5", "x")),
        ({"A": "red", "B": 2, "C": None}, ("red", "2")),
        ({"text": ["red", "blue"], "label": ["A", "B"]}, ("red", "blue")),
        ({"label": ["A", "B"], "text": [1, 2]}, ("1", "2")),
    ],
    ids=str,
)
def test_options_in_other_forms_are_shown_and_guarded(choices: object, texts: tuple[str, ...]) -> None:
    found = read(choices=choices, answer_index=1)
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABC", texts, strict=False))
    assert (found.turns[0].text, found.turns[1].text, found.choices) == (f"Which?\n{lines}", "B", texts)
    with pytest.raises(RecordError, match=f"does not show the {len(texts)} options that 'choices' holds"):
        read("{question}", choices=choices, answer_index=1)


@pytest.mark.parametrize("answer", ["B", "red"])
@pytest.mark.parametrize(
    "choices",
    [
        ["red", None, "blue"],
        [True, False],
        [{"text": "red"}, {"text": "blue"}],
        {"text": ["red", "blue"], "label": ["1", "2"]},
        {"text": ["red", "blue"], "label": ["A"]},
        {"B": "red", "A": "blue"},
        {"A": "red", "B": None, "C": "blue"},
        {"A": True, "B": False},
        4,
    ],
    ids=str,
)
def test_options_of_a_kind_that_is_not_read_are_refused(choices: object, answer: str) -> None:
    with pytest.raises(RecordError, match=r"'choices' is .*, and options are texts or numbers") as caught:
        read("{question}", choices=choices, answer=answer)
    assert caught.value.code == "conversation.choices"
    assert str(caught.value).startswith("data.json, record 3")
    record = Record(file="a.json", index=0, fields={"question": "?", "choices": choices, "answer": answer})
    assert to_conversation(record, requires_answer=True, ignore_keys=["choices"]).choices == ()


def test_lettered_columns_of_numbers_are_options(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "How many?", "A": 1, "B": 2.5, "C": null, "answer": "B"}\n')
    source = SourceSettings(path=str(tmp_path / "a.jsonl"))
    asked = open_source(source, prompt=PROMPT, system=None, requires_answer=True, check_images=True)
    assert isinstance(asked, ConversationDataset)
    assert (asked[0].turns[0].text, asked[0].choices) == ("How many?\nA. 1\nB. 2.5", ("1", "2.5"))


@pytest.mark.parametrize("gap", [None, True], ids=str)
def test_a_gap_among_lettered_columns_is_refused(tmp_path: Path, gap: object) -> None:
    record = {"question": "How many?", "A": "one", "B": "two", "C": gap, "D": "four", "answer": "D"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    source = SourceSettings(path=str(tmp_path / "a.jsonl"))
    options: dict[str, Any] = {"prompt": PROMPT, "system": None, "requires_answer": True, "check_images": True}
    with pytest.raises(RecordError, match="it has an option D and none at C") as caught:
        open_source(source, **options)
    assert caught.value.code == "conversation.choices"
    asked = open_source(replace(source, columns={"depth": "D"}), **options)
    assert isinstance(asked, ConversationDataset)
    assert asked[0].choices == ("one", "two")


def test_a_conversation_carries_the_options() -> None:
    assert read(answer_index=1).choices == ("red", "blue")
    assert read(prompt="{question} Red or blue?", answer="B").choices == ("red", "blue")
    assert read(prompt="{question}", answer="blue").choices == ("red", "blue")
    assert read(prompt="{question}", choices=None).choices == ()
    assert read(prompt="{question}", choices=[1, 2]).choices == ("1", "2")
    assert read(prompt="{question}", choices="red").choices == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"answer_index": 1},
        {"answer": "B"},
        {"answer": "(B)"},
        {"answers": ["B", "A"]},
        {"answer": "B", "choices": None, "options": ["red", "blue"]},
        {"answer": "B", "choices": None, "options": {"A": "red", "B": "blue"}},
        {"answer": "B", "choices": None, "options": "['red', 'blue']"},
        {"answer": "B", "choices": None, "options": [10, 20]},
        {"answer": "B", "choices": None, "options": {"1": "red", "2": "blue"}},
        {"answer": "B", "question": "Which is not red?"},
    ],
    ids=str,
)
@pytest.mark.parametrize("requires_answer", [True, False])
def test_a_letter_whose_options_the_prompt_does_not_show_is_refused(
    fields: dict[str, Any], requires_answer: bool
) -> None:
    whole = {"question": "Which?", "choices": ["red", "blue"], **fields}
    record = Record(file=Path("data.json"), index=3, fields=whole, image_root=None)
    with pytest.raises(RecordError, match="is the letter B, and the prompt does not show the 2 options") as caught:
        to_conversation(record, requires_answer=requires_answer)
    assert caught.value.code == "conversation.hidden_options"
    assert str(caught.value).startswith("data.json, record 3")
    assert 'prompt: "{question}\\n{choices}"' in caught.value.remedy
    assert ("columns: {choices: options}" in caught.value.remedy) == ("options" in fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": "B", "question": "Which? (A) Red (B)  BLUE"},
        {"answer": "B", "question": "Which letter is on the sign?", "choices": None},
        {"answer": "B", "choices": ["A", "B", "C"]},  # the letter is what is asked for
        {"answer": "C"},  # no letter of two options
        {"answer": "b"},
        {"answer": 3},  # no number of two options
        {"answer": "-1"},
        {"answer": 1, "choices": None},
        {"answer": 1, "question": "Which? (0) red (1) blue"},
        {"answer": "2", "choices": ["1", "2", "3"]},  # the number is what is asked for
        {"answer": 2, "choices": ["2 boxes", "3 boxes", "4 boxes"]},
        {"answer": 1, "choices": ["1.0", "2.0"]},
        {"answers": ["2", "2", "two"], "choices": ["1", "4"]},
        {"answers": ["B", "blue"]},
        {"answers": ["B", "teal"]},
        {"answer": "B", "choices": None, "ocr": ["STOP", "B"]},
        {"answer": "B", "choices": None, "options": 4},
        {"answer": "B", "choices": None, "options": "['red', 'blue'"},
    ],
    ids=str,
)
def test_a_letter_that_is_no_hidden_option_is_an_answer(fields: dict[str, Any]) -> None:
    assert read("{question}", **fields).references


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"answer": 1}, "{answer_index: answer}"),  # ScienceQA
        ({"answer": "1", "choices": None, "options": ["red", "blue"]}, "{choices: options, answer_index: answer}"),
        ({"answer": 0}, "{answer_index: answer}"),
        ({"question": None, "query": "Which?", "response": "1"}, "{answer_index: response}"),
        ({"answer": 1, "choices": ["30 m", "45 m"]}, "{answer_index: answer}"),
        ({"answer": 2}, None),  # counted from 1
        ({"answer": "(1)"}, None),
        ({"answers": ["1", "1"]}, None),
    ],
    ids=str,
)
def test_a_number_whose_options_the_prompt_does_not_show_is_refused(fields: dict[str, Any], told: str | None) -> None:
    whole = {"question": "Which?", "choices": ["red", "blue"], **fields}
    record = Record(file=Path("data.json"), index=3, fields=whole, image_root=None)
    with pytest.raises(RecordError, match=r"is the number [012], .* does not show the 2 options") as caught:
        to_conversation(record, requires_answer=True)
    assert caught.value.code == "conversation.hidden_options"
    assert (f"columns: {told}." in caught.value.remedy) == (told is not None)
    assert "counts from 0" in caught.value.remedy
    key = "options" if "options" in fields else "choices"
    assert to_conversation(record, requires_answer=True, ignore_keys=[key]).references


@pytest.mark.parametrize("answer", [1, "1"])
def test_the_remedy_for_a_number_gives_its_letter(tmp_path: Path, answer: int | str) -> None:
    row = {"question": "Which?", "options": ["red", "blue"], "answer": answer}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    source = SourceSettings(path=str(tmp_path / "a.json"), columns={"choices": "options", "answer_index": "answer"})
    asked = open_source(source, prompt=PROMPT, system=None, requires_answer=True, check_images=True)
    assert isinstance(asked, ConversationDataset)
    assert [turn.text for turn in asked[0].turns] == ["Which?\nA. red\nB. blue", "B"]


def test_options_are_shown_by_a_template_or_in_a_records_own_turns() -> None:
    assert read("{question} {options|none}", answer="B", choices=None, options=["red", "blue"]).references == ("B",)
    assert read(answer="B", choices=["1 < 2 > 0", "blue"]).references == ("B",)
    pictured = {"question": "<image 1> or blue?", "choices": ["<image 1>", "blue"], "answer": "B", "image": "a.png"}
    record = Record(file=Path("data.json"), index=3, fields=pictured, image_root=Path("/pictures"))
    assert to_conversation(record, requires_answer=True).references == ("B",)
    for asked, shown in (("Which?\nA. red\nB. blue", True), ("Which?", False)):
        talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": "B"}]
        whole = {"conversations": talk, "choices": ["red", "blue"]}
        record = Record(file=Path("data.json"), index=3, fields=whole, image_root=None)
        if shown:
            assert to_conversation(record, requires_answer=True).references == ("B",)
        else:
            with pytest.raises(RecordError, match="does not show"):
                to_conversation(record, requires_answer=True)


def test_a_source_may_ask_what_has_no_options_in_other_words(tmp_path: Path) -> None:
    rows = ['{"question": "Which?", "options": "[\'red\', \'blue\']"}', '{"question": "How many?", "options": "[]"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    source = SourceSettings(
        path=str(tmp_path / "a.jsonl"),
        columns={"choices": "options"},
        lists=["choices"],
        prompt_without_choices="{question} In a word.",
    )
    asked = open_source(source, prompt=PROMPT, system=None, requires_answer=False, check_images=True)
    assert isinstance(asked, ConversationDataset)
    assert [asked[i].turns[0].text for i in range(2)] == ["Which?\nA. red\nB. blue", "How many? In a word."]


def test_true_and_false_name_a_group() -> None:
    record = Record(file="a.json", index=0, fields={"question": "?", "hard": True, "easy": False})
    found = to_conversation(record, requires_answer=False, group_fields=["hard", "easy"])
    assert found.groups == {"hard": "true", "easy": "false"}
