"""Tests of CHAIR over COCO's own files: the truth of both kinds together, answers of every form, broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import refusal
from vlm_lit.cli import main

Capture = pytest.CaptureFixture[str]

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 6, "name": "bus"}, {"id": 18, "name": "dog"}]


def captions(*pairs: tuple[int, str]) -> dict[str, Any]:
    annotations = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(pairs)]
    return {
        "info": {},
        "images": [{"id": image} for image in {image for image, _ in pairs}],
        "annotations": annotations,
    }


def instances(*pairs: tuple[int, int], images: tuple[int, ...] = (42, 73)) -> dict[str, Any]:
    outline = {"segmentation": [[1.5, 2.0]], "area": 3.0, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
    annotations = [{"id": n, "image_id": i, "category_id": c, **outline} for n, (i, c) in enumerate(pairs)]
    return {"images": [{"id": image} for image in images], "annotations": annotations, "categories": CATEGORIES}


CAPTIONS = captions((42, "A man walks."), (42, "two kites in the sky"), (73, "An empty street."))
INSTANCES = instances((42, 18), (42, 18), (73, 6))


def files(folder: Path, answers: object, *annotations: object) -> list[str]:
    """The arguments of `score`."""
    paths = [folder / f"annotations_{n}.json" for n in range(len(annotations))]
    for path, content in zip(paths, annotations, strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    given = folder / "answers.json"
    given.write_text(answers if isinstance(answers, str) else json.dumps(answers), encoding="utf-8")
    named = ["--predictions", str(given), "--annotations", *map(str, paths), "--output", str(folder / "scores.json")]
    return ["score", "--metric", "chair", *named]


def scored(folder: Path, answers: object, *annotations: object) -> dict[str, Any]:
    assert main(files(folder, answers, *(annotations or (CAPTIONS, INSTANCES)))) == 0
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


ANSWERS = [
    {"image_id": 42, "caption": "A man with a dog, a cat and a kite."},  # the cat is not there
    {"image_id": 73, "caption": "two buses and a tie"},  # a tie is not there
]


def test_an_object_is_true_by_a_caption_or_by_an_instance(tmp_path: Path) -> None:
    found = scored(tmp_path, ANSWERS)
    assert found["per_item"] == {"42": 1.0, "73": 1.0}
    assert found["details"]["chair_i"] == pytest.approx(100 * 2 / 6)
    assert found["details"]["coverage"] == 100.0
    assert found["image_ids"] == {"42": "42", "73": "73"}
    alone = scored(tmp_path, ANSWERS[:1])  # some of the images
    assert (alone["n"], alone["details"]["chair_i"]) == (1, 25.0)


def test_the_order_of_the_files_does_not_matter_and_splits_go_together(tmp_path: Path) -> None:
    apart = [captions((42, "A man walks."), (42, "two kites in the sky")), captions((73, "An empty street."))]
    parts = [instances((42, 18), images=(42,)), instances((73, 6), images=(73,))]
    assert scored(tmp_path, ANSWERS, parts[1], *apart, parts[0]) == scored(tmp_path, ANSWERS)


LINES = "".join(json.dumps({"question_id": a["image_id"], "text": a["caption"]}) + "\n" for a in ANSWERS)
RUN = "".join(
    json.dumps({"id": f"q{n}", "image_id": f"COCO_val2014_{a['image_id']:012d}.jpg", "prediction": a["caption"]}) + "\n"
    for n, a in enumerate(ANSWERS)
)


@pytest.mark.parametrize(
    ("answers", "ids"),
    [
        ({"overall": {}, "imgToEval": {str(a["image_id"]): a for a in ANSWERS}}, ["42", "73"]),
        (LINES, ["42", "73"]),
        (RUN, ["q0", "q1"]),
        ([{"image": f"val/{a['image_id']:012d}.jpg", "answer": a["caption"]} for a in ANSWERS], None),
    ],
)
def test_answers_of_other_forms(answers: object, ids: list[str] | None, tmp_path: Path) -> None:
    found, same = scored(tmp_path, answers), scored(tmp_path, ANSWERS)
    assert found["details"] == same["details"]
    assert list(found["image_ids"].values()) == ["42", "73"]
    assert ids is None or list(found["per_item"]) == ids


def test_own_objects_over_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"man": ["men"], "dog": ["dogs"]}')
    arguments = files(tmp_path, ANSWERS, CAPTIONS, INSTANCES)
    assert main([*arguments, "--options.objects", str(tmp_path / "mine.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["overall"] == 0.0


@pytest.mark.parametrize(
    ("answers", "annotations", "says"),
    [
        (ANSWERS, [CAPTIONS], "CHAIR takes captions and instances together, and there are no instances"),
        (ANSWERS, [INSTANCES], "CHAIR takes captions and instances together, and there are no captions"),
        (ANSWERS, [CAPTIONS, {"annotations": [{"question_id": 1}]}], "no captions and no instances of COCO"),
        (ANSWERS, [CAPTIONS, {"annotations": [5]}], "annotations_1.json: `annotations` is no list of objects"),
        (ANSWERS, [CAPTIONS, instances((42, 99))], "record 0: category_id is 99, which `categories` does not have"),
        (ANSWERS, [captions((42, "a")), INSTANCES], "record 1 (image_id 73): the captions say nothing about image 73"),
        (ANSWERS, [CAPTIONS, instances((42, 18), images=(42,))], "the instances say nothing about image 73"),
        ([ANSWERS[0], ANSWERS[0]], [CAPTIONS, INSTANCES], "the id 42 stands there twice"),
        ([{"image_id": "x", "caption": "a"}], [CAPTIONS, INSTANCES], "image_id is 'x', which names no image of COCO"),
        ([{"image_id": 42, "words": "a"}], [CAPTIONS, INSTANCES], "record 0 (image_id 42): it has no caption"),
        ([{"image_id": 42, "caption": None}], [CAPTIONS, INSTANCES], "caption is null"),
        ({"overall": {}}, [CAPTIONS, INSTANCES], "it has no answers by image named imgToEval"),
        ([], [CAPTIONS, INSTANCES], "the list is empty"),
    ],
)
def test_broken_files(answers: object, annotations: list[object], says: str, tmp_path: Path, capsys: Capture) -> None:
    assert says in refusal(capsys, *files(tmp_path, answers, *annotations))
    assert not (tmp_path / "scores.json").exists()


def test_an_answer_that_names_nothing_is_no_near_miss(tmp_path: Path) -> None:
    found = scored(tmp_path, [{"image_id": 42, "caption": "it is sunny"}])
    assert (found["overall"], found["details"]["silent"], found["misses"]["n"]) == (0.0, 100.0, 0)


def test_several_annotations_are_for_chair_alone(tmp_path: Path, capsys: Capture) -> None:
    arguments = files(tmp_path, ANSWERS, CAPTIONS, INSTANCES)
    arguments[arguments.index("chair")] = "bleu"
    assert "several are for chair alone" in refusal(capsys, *arguments)
    same = str(tmp_path / "annotations_1.json")
    overwriting = [*files(tmp_path, ANSWERS, CAPTIONS, INSTANCES), "--output", same]
    assert "would overwrite what is to be judged" in refusal(capsys, *overwriting)


def test_ones_own_records_are_judged_by_chair_as_by_any_metric(tmp_path: Path) -> None:
    rows = [{"id": "a", "prediction": "a dog and a cat", "references": ["a dog runs", "person"]}]
    (tmp_path / "records.json").write_text(json.dumps(rows))
    named = ["--records", str(tmp_path / "records.json"), "--output", str(tmp_path / "s.json")]
    assert main(["score", "--metric", "chair", *named]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["overall"], found["details"]["chair_i"], found["details"]["mentions"]) == (100.0, 50.0, 2.0)
