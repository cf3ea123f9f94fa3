"""Tests of benchmarks' own files: judged as their evaluators do, broken ones refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.refusals import refusal
from tests.support.vqa_files import write_vqa
from vlm_lit.cli import main

Capture = pytest.CaptureFixture[str]
PEOPLE = ["red"] * 3 + ["blue"] * 7

OFFICIAL: dict[str, tuple[object, object]] = {
    "textvqa": (
        {"dataset_type": "val", "data": [{"question_id": 34602, "image_id": "0054", "answers": PEOPLE}]},
        [{"question_id": 34602, "answer": "Red"}],
    ),
    "anls": (
        {"dataset_name": "docvqa", "data": [{"questionId": 49153, "image": "documents/x.png", "answers": ["two"]}]},
        [{"questionId": 49153, "answer": "Two"}],
    ),
    "vizwiz": (
        [
            {
                "image": "VizWiz_val_00000000.jpg",
                "question": "?",
                "answers": [{"answer": text, "answer_confidence": "yes"} for text in PEOPLE],
                "answer_type": "other",
                "answerable": 1,
            }
        ],
        [{"image": "VizWiz_val_00000000.jpg", "answer": "Red."}],
    ),
    "gqa": (
        {
            "201307251": {
                "imageId": "n161313",
                "question": "?",
                "answer": "red",
                "isBalanced": True,
                "types": {"structural": "query", "semantic": "attr", "detailed": "colour"},
            }
        },
        [{"questionId": "201307251", "prediction": "red"}],
    ),
    "aokvqa": (
        [
            {"question_id": "22jb", "image_id": 9, "choices": ["red", "blue"], "correct_choice_idx": 1,
             "direct_answers": PEOPLE[2:], "difficult_direct_answer": False},
            {"question_id": "44jb", "image_id": 9, "choices": ["red", "blue"], "correct_choice_idx": 0,
             "direct_answers": ["red"], "difficult_direct_answer": True},
        ],
        {
            "22jb": {"multiple_choice": "blue", "direct_answer": "red"},
            "44jb": {"multiple_choice": "blue", "direct_answer": "red"},
        },
    ),
}  # fmt: skip
"""Annotations as each benchmark publishes them, and what its server would be handed, by the metric that judges them."""


class Files(NamedTuple):
    """What stands in two files."""

    annotations: Any
    predictions: Any


def write(folder: Path, annotations: object, predictions: object) -> list[str]:
    """The arguments that name these two files and the output."""
    for name, content in (("annotations", annotations), ("predictions", predictions)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    files = (f"--{name}={folder / name}.json" for name in ("annotations", "predictions"))
    return [*files, f"--output={folder / 'scores.json'}"]


def scored(folder: Path, metric: str, arguments: list[str]) -> dict[str, Any]:
    assert main(["score", "--metric", metric, *arguments]) == 0
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


def named(parts: dict[str, dict[str, dict[str, float]]]) -> dict[str, str]:
    return {group: value for group, values in parts.items() for value in values}


@pytest.mark.parametrize(
    ("metric", "per_item", "groups", "image_id"),
    [
        ("textvqa", {"34602": 0.9}, {}, "0054"),
        ("anls", {"49153": 1.0}, {}, "documents/x.png"),
        ("vizwiz", {"VizWiz_val_00000000.jpg": 0.9}, {"answer_type": "other"}, "VizWiz_val_00000000.jpg"),
        (
            "gqa",
            {"201307251": 1.0},
            {"form": "open", "structural": "query", "semantic": "attr", "detailed": "colour"},
            "n161313",
        ),
        ("aokvqa", {"22jb": 1 / 3}, {"difficult_direct_answer": "false"}, "9"),
    ],
)
def test_a_benchmarks_files_are_judged(
    metric: str, per_item: dict[str, float], groups: dict[str, str], image_id: str, tmp_path: Path
) -> None:
    found = scored(tmp_path, metric, write(tmp_path, *OFFICIAL[metric]))
    assert found["per_item"] == pytest.approx(per_item)
    assert named(found["groups"]) == groups
    assert set(found["image_ids"].values()) == {image_id}


PUBLISHED: dict[str, dict[str, object]] = {
    "textvqa": {
        "question": "?", "image_classes": ["Lamp"], "flickr_original_url": "https://a/b.jpg", "image_width": 1024,
        "flickr_300k_url": "https://a/c.jpg", "image_height": 768, "question_tokens": ["what"], "set_name": "val",
    },
    "anls": {
        "question": "?", "question_types": ["handwritten"], "docId": 14465, "ucsf_document_id": "pybv0228",
        "ucsf_document_page_no": "81", "data_split": "val",
    },
    "vizwiz": {},
    "gqa": {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "lamp"}], "entailed": [], "equivalent": [],
        "groups": {"global": None, "local": "06-lamp"}, "semanticStr": "select: lamp", "fullAnswer": "It is red.",
        "annotations": {"answer": {}, "question": {"2": "n1"}, "fullAnswer": {}},
    },
    "aokvqa": {"split": "val", "question": "?", "rationales": ["It is lit."] * 3},
}  # fmt: skip
"""The further keys of one question in each benchmark's annotations."""


@pytest.mark.parametrize("metric", PUBLISHED)
def test_whatever_else_is_published_changes_nothing(metric: str, tmp_path: Path) -> None:
    annotations, predictions = OFFICIAL[metric]
    expected = scored(tmp_path, metric, write(tmp_path, annotations, predictions))
    whole = json.loads(json.dumps(annotations))
    members = whole["data"] if "data" in whole else list(whole.values()) if isinstance(whole, dict) else whole
    for member in members:
        member.update(PUBLISHED[metric])
    assert scored(tmp_path, metric, write(tmp_path, whole, predictions)) == expected


def test_popes_questions_are_json_lines_whatever_their_file_is_called(tmp_path: Path) -> None:
    asked = [{"question_id": i, "image": "a.jpg", "text": "Is it?", "label": "no"} for i in (1, 2)]
    said = [
        {"question_id": i, "prompt": "Is it?", "text": text, "answer_id": "x"} for i, text in ((1, "No."), (2, "Yes"))
    ]
    arguments = write(tmp_path, {}, {})
    for name, rows in (("annotations", asked), ("predictions", said)):
        (tmp_path / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))
    assert scored(tmp_path, "pope", arguments)["per_item"] == {"1": 1.0, "2": 0.0}


def test_aokvqas_chosen_options_are_judged_by_their_words(tmp_path: Path, capsys: Capture) -> None:
    arguments = write(tmp_path, *OFFICIAL["aokvqa"])
    assert scored(tmp_path, "exact_match", arguments)["per_item"] == {"22jb": 1.0, "44jb": 0.0}
    error = refusal(capsys, "score", "--metric", "multiple_choice", *arguments)
    assert "A-OKVQA's files are not judged by multiple_choice: judge direct answers by --metric aokvqa" in error


@pytest.mark.parametrize(
    ("metric", "change", "problem"),
    [
        (
            "gqa",
            lambda f: f.annotations["201307251"].update(isBalanced=False),
            "record 0 (id 201307251): it is not balanced.",
        ),
        ("gqa", lambda f: f.annotations["201307251"].pop("answer"), "it has no answer; there is id, image_id, "),
        ("gqa", lambda f: f.predictions[0].pop("questionId"), "record 0: it has no questionId; there is prediction."),
        ("gqa", lambda f: f.predictions.append(f.predictions[0]), "the questionId 201307251 stands there twice."),
        (
            "gqa",
            lambda f: f.predictions.append({"questionId": "1", "prediction": ""}),
            "1 question ids do not stand in ",
        ),
        (
            "vizwiz",
            lambda f: f.predictions[0].update(answer=None),
            "record 0 (image VizWiz_val_00000000.jpg): answer is null.",
        ),
        (
            "vizwiz",
            lambda f: f.annotations.append(f.annotations[0]),
            "the id VizWiz_val_00000000.jpg stands there twice.",
        ),
        (
            "textvqa",
            lambda f: f.annotations["data"][0].pop("answers"),
            "it has no answers; there is question_id, image_id.",
        ),
        ("textvqa", lambda f: f.predictions.clear(), "the list is empty."),
        ("aokvqa", lambda f: f.predictions.pop("44jb"), "record 44jb: 1 of the 2 questions in "),
        (
            "aokvqa",
            lambda f: f.predictions["22jb"].pop("direct_answer"),
            "(question_id 22jb): it has no direct_answer;",
        ),
        ("aokvqa", lambda f: f.predictions.update({"22jb": "red"}), "it is no object of answers by question."),
        (
            "exact_match",
            lambda f: f.annotations[0].update(correct_choice_idx=2),
            "correct_choice_idx is 2 where there are 2",
        ),
    ],
)
def test_broken_files_are_named(
    metric: str, change: Callable[[Files], object], problem: str, tmp_path: Path, capsys: Capture
) -> None:
    files = Files(*json.loads(json.dumps(OFFICIAL[metric.replace("exact_match", "aokvqa")])))
    change(files)
    arguments = write(tmp_path, files.annotations, files.predictions)
    error = refusal(capsys, "score", "--metric", metric, *arguments)
    assert problem in error
    assert error.startswith(f"error: {tmp_path}")
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    "annotations",
    [
        {"validation_Math_1": {"question_type": "open", "ground_truth": "7"}},
        [{"question": "?", "label": "yes"}],
        [],
        {},
        7,
    ],
    ids=["mmmu", "pope", "empty list", "empty object", "number"],
)
def test_other_annotations_are_sent_to_records(annotations: object, tmp_path: Path, capsys: Capture) -> None:
    error = refusal(
        capsys, "score", "--metric", "anls", *write(tmp_path, annotations, [{"question_id": 1, "answer": "x"}])
    )
    assert "these are no annotations of VQA, TextVQA, DocVQA, VizWiz, GQA or A-OKVQA." in error
    assert "or answers and references in one file by --records." in error


def test_questions_are_of_vqa_alone(tmp_path: Path, capsys: Capture) -> None:
    arguments = [*write(tmp_path, *OFFICIAL["gqa"]), "--questions", str(tmp_path / "annotations.json")]
    assert "--questions is for VQA; " in refusal(capsys, "score", "--metric", "gqa", *arguments)


@pytest.mark.parametrize("name", ["predictions", "annotations", "questions"])
def test_bytes_that_are_not_utf_8_are_named(name: str, tmp_path: Path, capsys: Capture) -> None:
    arguments = [*write_vqa(tmp_path), "--output", str(tmp_path / "o.json")]
    path = tmp_path / f"{name}.json"
    path.write_bytes(path.read_bytes().replace(b'"question_id"', b'"question_\xff"', 1))
    error = refusal(capsys, "score", "--metric", "vqa_v2", *arguments)
    assert error.startswith(f"error: {path}")
    assert "UTF-8" in error
