"""Tests of lists written as text: read as lists, and nothing else read as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.written_lists import with_lists
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record


def read(text: object) -> object:
    return with_lists(Record(file="a.json", index=3, fields={"options": text, "id": 7}), ["options"]).fields["options"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("['red', 'dark red']", ["red", "dark red"]),
        ("[\"it's\", '<image 2>']", ["it's", "<image 2>"]),
        (" ['a\\n', '\\u00e9'] ", ["a\n", "é"]),
        ("[]", []),
        ("2", "2"),
        ("red [dark]", "red [dark]"),
        ("[0, 1)", "[0, 1)"),
        ("[1, 2]", "[1, 2]"),
        ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
        (["red"], ["red"]),
        (None, None),
    ],
)
def test_what_begins_as_a_list_is_one(text: object, found: object) -> None:
    assert read(text) == found


def test_other_fields_stay() -> None:
    record = Record(file="a.json", index=0, fields={"options": "['a']", "answer": "['b']"})
    assert with_lists(record, ["options"]).fields == {"options": ["a"], "answer": "['b']"}
    assert with_lists(record, []) is record


@pytest.mark.parametrize(
    "text",
    ["['red'", "['a', None]", "['a'] * 2", "['', __import__('os').getcwd()]", "['', " + "[" * 5000, "['a'\0]", "[]]"],
    ids=lambda text: text[:12],
)
def test_what_only_begins_as_one_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match=r"a\.json, record 3 \(id 7\): 'options' begins as a list") as caught:
        read(text)
    assert caught.value.code == "record.written_list"


def test_a_text_too_long_to_be_a_list_of_options_is_refused() -> None:
    with pytest.raises(RecordError, match="begins as a list"):
        read("[" + "'a'," * 50_000 + "]")


def test_a_field_that_is_not_there_is_named() -> None:
    fields: dict[str, Any] = {"question": "?"}
    with pytest.raises(RecordError, match=r"no field 'options'; there are 'question'\. Correct the setting `lists`"):
        with_lists(Record(file="a.json", index=0, fields=fields), ["options"])


@pytest.mark.parametrize(
    ("answers", "settings", "noted"),
    [
        ("['utah', 'u']", {}, True),
        ('["utah", "u"]', {}, True),
        ("['utah', 'u']", {"lists": ["answers"]}, False),
        ("['utah', 'u']", {"columns": {"answer": "answers"}}, False),
        ("[0, 1)", {}, False),
        ("utah", {}, False),
        ("['utah'", {}, False),
        (["utah", "u"], {}, False),
    ],
    ids=str,
)
def test_answers_that_are_a_list_as_text_are_named(
    tmp_path: Path, answers: object, settings: dict[str, Any], noted: bool
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"question": "Where?", "answers": answers}]))
    source = SourceSettings(path=str(tmp_path / "a.json"), **settings)
    data = open_source(source, prompt=None, system=None, requires_answer=True, check_images=True)
    assert isinstance(data, ConversationDataset)
    assert any("lists: [answers]" in line for line in data.findings.lines()) == noted
    if settings.get("lists"):
        assert data[0].references == ("utah", "u")
