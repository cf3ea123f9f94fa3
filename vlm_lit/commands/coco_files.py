"""COCO's captions and instances files with answers about their images, as CHAIR judges them.

What is true of an image are the objects in its captions and the categories of its instances, both: the files of
several splits may be given together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_columns import AnswerColumns
from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, again, has_lines, loaded, rows, with_unique_ids
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.open_text import begins_with
from vlm_lit.metrics.rules import Answer

_ANSWERS: Final = ("caption", "prediction", "answer", "text", "response")
_IMAGES: Final = ("image_id", "image", "question_id")
_IDS: Final = ("id", "question_id")
_OF_NUMBER: Final = re.compile(r"(?:.*[_/])?0*([0-9]+)(?:\.[a-z]+)?")
"""A number as COCO has it, or the name of a picture: `COCO_val2014_000000000042.jpg`."""

_FILES: Final = "Give COCO's captions_*.json and instances_*.json of one split, as published, or of several."


@dataclass(frozen=True)
class CocoTruth:
    """Captions and category names by image; `captioned` and `annotated` are the images that the files are about."""

    captions: dict[str, list[str]] = field(default_factory=dict)
    categories: dict[str, set[str]] = field(default_factory=dict)
    captioned: set[str] = field(default_factory=set)
    annotated: set[str] = field(default_factory=set)

    def references(self, image: str) -> tuple[str, ...]:
        """The texts that say what an image shows."""
        return (*sorted(self.categories.get(image, ())), *self.captions.get(image, ()))


def are_coco_files(paths: Sequence[Path]) -> bool:
    """Whether these are whole JSON objects, as COCO's files are, and not one's own records."""
    return all(
        path.is_file() and path.suffix == ".json" and begins_with(path, b"{") and not has_lines(path) for path in paths
    )


def read_coco(predictions: Path, annotations: Sequence[Path], columns: AnswerColumns) -> list[FiledAnswer]:
    """Reads answers about images of COCO, in their order, with what is true of each image.

    Answers are COCO's caption results ({"image_id", "caption"}), the `imgToEval` of COCO's evaluation, a run's
    predictions, or any records with an image's number or picture name and a text. They may be about some of the images.

    Args:
        predictions: the answers.
        annotations: captions and instances files, at least one of each.
        columns: the keys that hold id, image and prediction, where they are not told by their names.

    Raises:
        RecordError: a file is broken or of no known form, repeats an id, or is about an image without annotations.
        ConfigError: there is no such file, or captions or instances are missing.
    """
    truth = read_truth(annotations)
    return list(with_unique_ids(_answers(predictions, truth, columns)))


def read_truth(paths: Sequence[Path]) -> CocoTruth:
    """Reads captions and instances files.

    Raises:
        RecordError, ConfigError: as `read_coco`.
    """
    truth = CocoTruth()
    kinds = {path: _add(truth, path) for path in paths}
    lacking = {"captions", "instances"} - set(kinds.values())
    if lacking:
        given = ", ".join(f"{path} ({kind})" for path, kind in kinds.items())
        raise ConfigError(
            f"--annotations: CHAIR takes captions and instances together, and there are no {lacking.pop()}: {given}. "
            f"{_FILES}"
        )
    return truth


def _add(truth: CocoTruth, path: Path) -> str:
    """Add a file to the truth; which kind it is."""
    whole = loaded(path, _slim)
    found = whole if isinstance(whole, dict) else {}
    members, images = (
        [FiledRow(path, i, entry, id_key=None) for i, entry in enumerate(_objects(path, found, name))]
        for name in ("annotations", "images")
    )
    if members and "caption" in members[0].fields:
        truth.captioned.update(_image(row, "id") for row in images)
        for row in members:
            truth.captions.setdefault(_image(row, "image_id"), []).append(row.text("caption"))
        truth.captioned.update(truth.captions)
        return "captions"
    if members and "category_id" in members[0].fields:
        rows_of = (FiledRow(path, i, m, id_key="id") for i, m in enumerate(_objects(path, found, "categories")))
        names = {row.id: row.text("name") for row in rows_of}
        truth.annotated.update(_image(row, "id") for row in images)
        for row in members:
            category = row.text("category_id")
            if category not in names:
                row.refuse(f"category_id is {category}, which `categories` does not have", _FILES)
            truth.categories.setdefault(_image(row, "image_id"), set()).add(names[category])
        truth.annotated.update(truth.categories)
        return "instances"
    raise RecordError("these are no captions and no instances of COCO", remedy=_FILES, file=path, code="json.form")


def _slim(fields: dict[str, object]) -> object:
    """An instance without its outline: a file has hundreds of megabytes of them."""
    if "category_id" not in fields:
        return fields
    return {name: fields[name] for name in ("image_id", "category_id") if name in fields}


def _objects(path: Path, whole: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """The list of objects that a file has by a name; an empty one where it has none."""
    members = whole.get(name, [])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise RecordError(f"`{name}` is no list of objects", remedy=_FILES, file=path, code="json.form")
    return members


def _image(row: FiledRow, key: str) -> str:
    """The number of an image, from itself or from a picture's name."""
    text = row.text(key)
    match = _OF_NUMBER.fullmatch(text)
    if match is None:
        row.refuse(f"{key} is {text!r}, which names no image of COCO", "Write its number, or its picture's name.")
    return match[1]


def _answers(path: Path, truth: CocoTruth, columns: AnswerColumns) -> Iterator[FiledAnswer]:
    entries = _entries(path)
    first = columns.with_inner(next(entries))
    answer_key = columns.prediction or next((key for key in _ANSWERS if key in first), _ANSWERS[0])
    image_key = columns.image_id or next((key for key in _IMAGES if first.get(key) is not None), _IMAGES[0])
    id_key = columns.id or next((key for key in _IDS if key in first), image_key)
    for index, entry in enumerate(again(first, entries)):
        row = FiledRow(path, index, columns.with_inner(entry), id_key=id_key)
        image = _image(row, image_key)
        for images, kind in ((truth.captioned, "captions"), (truth.annotated, "instances")):
            if image not in images:
                row.refuse(f"the {kind} say nothing about image {image}", _FILES)
        answer = Answer(row.text(answer_key, column="prediction"), truth.references(image), row.id, groups=row.groups())
        yield FiledAnswer(answer, image, path, row.place)


def _entries(path: Path) -> Iterator[dict[str, object]]:
    """The records of a file, or the values of `imgToEval`."""
    if path.suffix != ".json" or not path.is_file() or has_lines(path) or not begins_with(path, b"{"):
        return rows(path)
    whole = loaded(path)
    by_image = whole.get("imgToEval") if isinstance(whole, dict) else None
    if not isinstance(by_image, dict) or not by_image or not all(isinstance(e, dict) for e in by_image.values()):
        problem, remedy = (
            "it has no answers by image named imgToEval",
            'Write [{"image_id": 42, "caption": "..."}, ...].',
        )
        raise RecordError(problem, remedy=remedy, file=path, code="json.form")
    return iter(by_image.values())
