"""Tests of server files: each server is given what it reads, and nothing that it would misread."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.run_files import row
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.schema import Prediction
from vlm_lit.studies.run_files.server_files import FORMATS, server_file

OPTIONS = "Which lamp?\nA. red\nB. dark green\nAnswer with the option's letter."


def said(*answers: tuple[str, str], question: str = "Which lamp?") -> list[Prediction]:
    """Answers by id, in order."""
    changes: dict[str, Any] = {"references": (), "question": question}
    return [Prediction(**{**row(key), **changes, "prediction": answer}) for key, answer in answers]


@pytest.mark.parametrize(
    ("name", "answers", "content"),
    [
        (
            "vqa_v2",
            [("12", "Red"), ("7", "")],
            [{"question_id": 12, "answer": "Red"}, {"question_id": 7, "answer": ""}],
        ),
        ("textvqa", [("34602", "é")], [{"question_id": 34602, "answer": "é"}]),
        ("docvqa", [("49153", "two")], [{"questionId": 49153, "answer": "two"}]),
        ("vizwiz", [("VizWiz_test_00000000.jpg", "two")], [{"image": "VizWiz_test_00000000.jpg", "answer": "two"}]),
        ("gqa", [("012", "red")], [{"questionId": "012", "prediction": "red"}]),
        (
            "mmmu",
            [("a", "B"), ("b", "(C)."), ("c", " D. "), ("d", "A lamp"), ("e", "")],
            {"a": "B", "b": "C", "c": "D", "d": "A lamp", "e": ""},
        ),
        ("aokvqa", [("a", "red")], {"a": {"direct_answer": "red"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_server_reads(name: str, answers: list[tuple[str, str]], content: object) -> None:
    assert json.loads(server_file(name, said(*answers))) == content


def test_a_chosen_letter_is_handed_in_as_its_option() -> None:
    found = json.loads(server_file("aokvqa", said(("a", "B"), ("b", "neither"), question=OPTIONS)))
    assert found == {
        "a": {"multiple_choice": "dark green", "direct_answer": "dark green"},
        "b": {"multiple_choice": "neither", "direct_answer": "neither"},
    }


def with_choices(predictions: list[Prediction]) -> list[Prediction]:
    return [replace(p, choices=("red", "dark green")) for p in predictions]


def test_choices_go_before_what_a_question_shows() -> None:
    shown_otherwise = with_choices(said(("a", "B"), question="Which lamp?\nA. blue\nB. two"))
    assert json.loads(server_file("aokvqa", shown_otherwise)) == {
        "a": {"multiple_choice": "dark green", "direct_answer": "dark green"}
    }
    replies = with_choices(said(("a", "I am sure that it is dark green"), ("b", "C"), ("c", "(A) red")))
    assert json.loads(server_file("mmmu", replies)) == {"a": "B", "b": "C", "c": "A"}


def test_both_settings_of_aokvqa_are_handed_in_together() -> None:
    chosen, direct = with_choices(said(("a", "B"), ("b", "A"))), said(("b", "a lamp"), ("a", "green"))
    assert json.loads(server_file("aokvqa", [*chosen, *direct])) == {
        "a": {"multiple_choice": "dark green", "direct_answer": "green"},
        "b": {"multiple_choice": "red", "direct_answer": "a lamp"},
    }
    with pytest.raises(VlmLitError, match="1 questions have an answer in one of the two settings only, such as 'b'"):
        server_file("aokvqa", [*chosen, *direct[1:]])
    with pytest.raises(VlmLitError, match="Two predictions have the id 'a'"):
        server_file("aokvqa", [*chosen, *direct, *chosen[:1]])


def test_pope_is_handed_in_line_by_line_in_order() -> None:
    lines = server_file("pope", said(("2", "yes"), ("1", "no\n"))).splitlines()
    assert list(map(json.loads, lines)) == [
        {"question_id": "2", "question": "Which lamp?", "answer": "yes"},
        {"question_id": "1", "question": "Which lamp?", "answer": "no\n"},
    ]


@pytest.mark.parametrize("key", ["", "a7", "-7", "7.0", "\u0667", "VizWiz_test_00000000.jpg"])
@pytest.mark.parametrize("name", ["vqa_v2", "textvqa", "docvqa"])
def test_ids_that_are_no_numbers_are_refused(name: str, key: str) -> None:
    with pytest.raises(VlmLitError, match="is not a whole number"):
        server_file(name, said(("1", "red"), (key, "red")))


def test_ids_that_name_no_picture_are_refused() -> None:
    with pytest.raises(VlmLitError, match="'0' is not a picture's name"):
        server_file("vizwiz", said(("0", "red")))


@pytest.mark.parametrize("name", FORMATS)
def test_an_id_that_stands_twice_is_refused(name: str) -> None:
    key = "VizWiz_val_00000001.jpg" if name == "vizwiz" else "7"
    with pytest.raises(VlmLitError, match="Two predictions have the id"):
        server_file(name, said((key, "red"), (key, "blue")))


def test_two_spellings_of_one_number_are_one_id() -> None:
    with pytest.raises(VlmLitError, match="Two predictions have the id 7"):
        server_file("vqa_v2", said(("7", "red"), ("07", "blue")))


def test_an_unknown_server_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'coco'.*vqa_v2, textvqa"):
        server_file("coco", said(("7", "red")))
