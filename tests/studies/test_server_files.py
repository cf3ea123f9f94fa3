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
        (
            "amber",
            [("1005", "Yes"), ("1", "A sky.")],
            [{"id": 1005, "response": "Yes"}, {"id": 1, "response": "A sky."}],
        ),
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


def test_object_halbench_is_handed_lines_with_cocos_numbers() -> None:
    (first, second, third) = said(("a", "A dog."), ("b", "A cat."), ("c", ""))
    predictions = [
        replace(first, image_id="42"),
        replace(second, image_id=None, image="val2014/COCO_val2014_000000000073.jpg"),
        replace(third, image_id="000000000074"),
    ]
    lines = server_file("object_halbench", predictions).splitlines()
    assert list(map(json.loads, lines)) == [
        {"question_id": "a", "image_id": 42, "question": "Which lamp?", "answer": "A dog."},
        {"question_id": "b", "image_id": 73, "question": "Which lamp?", "answer": "A cat."},
        {"question_id": "c", "image_id": 74, "question": "Which lamp?", "answer": ""},
    ]
    for image in ("a picture", None):
        with pytest.raises(VlmLitError, match=f"'a' is about {image or 'no picture'}, and Object HalBench knows"):
            server_file("object_halbench", [replace(first, image_id=image)])


TEMPLATE = [
    {
        "question_type": "attribute",
        "question_topic": "outdoor",
        "image_id": name,
        "image_src": f"https://example.org/8/{source}.jpg",
        "image_content": ["Fire hydrant"],
        "question": "What color is it?",
        "gt_answer": "Yellow.",
        "model_answer": "",
    }
    for name, source in (("df62a56f", "72060_o"), ("5b18b22f", "74130_o"))
]


def test_mmhal_is_handed_its_template_filled_in() -> None:
    by_id, by_picture = said(("5b18b22f", "Green."), ("1", "Red."))
    by_picture = replace(by_picture, image_id=None, image="images/72060_o.jpg")
    found = json.loads(server_file("mmhal", [by_id, by_picture], TEMPLATE))
    assert found == [{**TEMPLATE[0], "model_answer": "Red."}, {**TEMPLATE[1], "model_answer": "Green."}]


def test_what_mmhals_template_asks_for_must_be_there_once() -> None:
    answers = said(("5b18b22f", "Green."), ("df62a56f", "Red."))
    with pytest.raises(VlmLitError, match=r"No prediction is about the picture 'df62a56f' .*record 0, 72060_o"):
        server_file("mmhal", answers[:1], TEMPLATE)
    again = replace(answers[0], id="x", image_id="74130_o")
    with pytest.raises(VlmLitError, match="2 predictions are about the picture '5b18b22f'"):
        server_file("mmhal", [*answers, again], TEMPLATE)
    with pytest.raises(VlmLitError, match="Record 0 of the template is none of MMHal-Bench's"):
        server_file("mmhal", answers, [{"image_id": "df62a56f"}])
    with pytest.raises(ConfigError, match="The format mmhal fills in the benchmark's own file"):
        server_file("mmhal", answers)


@pytest.mark.parametrize("key", ["", "a7", "-7", "7.0", "\u0667", "VizWiz_test_00000000.jpg"])
@pytest.mark.parametrize("name", ["vqa_v2", "textvqa", "docvqa", "amber"])
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
