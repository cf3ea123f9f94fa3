"""Tasks of Label Studio as rows: each annotator's answer of the JSON export, and the flat rows of JSON_MIN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vlm_lit.data.conversations.record_forms import ANSWER_KEYS
from vlm_lit.errors import RecordError, listed

_LISTS: Final = ("text", "choices")
_READ: Final = (*_LISTS, "number", "rating", "datetime")
_ABOUT: Final = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time")


def is_task(row: Mapping[str, object]) -> bool:
    """Whether a row is a task of the JSON export."""
    held = row.get("annotations", row.get("completions"))
    return isinstance(row.get("data"), Mapping) and isinstance(held, list)


def is_flat_task(row: Mapping[str, object]) -> bool:
    """Whether a row is one of the JSON_MIN export."""
    return "annotation_id" in row and ("annotator" in row or "lead_time" in row)


def flat_row(row: Mapping[str, object]) -> dict[str, object]:
    """A JSON_MIN row without what is about its making; the choices of one annotator as a list."""
    return {name: _choices(value) for name, value in row.items() if name not in _ABOUT}


def _choices(value: object) -> object:
    return value["choices"] if isinstance(value, Mapping) and isinstance(value.get("choices"), list) else value


def task_row(row: Mapping[str, object], path: Path, place: str) -> dict[str, object]:
    """A task's data and its annotators' words, each under the name of what it was written into (`from_name`).

    Words are texts, choices, numbers, ratings and dates. Where they wrote into one thing only, that is the answer,
    whatever its name. Predictions are no answers, and cancelled annotations are left out.

    Raises:
        RecordError: nobody has annotated it, an annotator chose several things at once, or a result is no words, such
            as a box: left out, it would let a comment beside it pass for the answer.
    """
    data = row["data"]
    assert isinstance(data, Mapping)
    said: dict[str, list[str]] = {}
    held = row.get("annotations", row.get("completions"))
    for annotation in held if isinstance(held, list) else []:
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled"):
            for name, texts in _results(annotation, path, place).items():
                said.setdefault(name, []).extend(texts)
    if not said:
        problem = "nobody has annotated the task (predictions are no answers)"
        remedy = "Annotate it, or leave it out of the export."
        raise RecordError(problem, remedy=remedy, file=path, record=place, code="label_studio.unlabelled")
    if len(said) == 1 and not any(name in data for name in ANSWER_KEYS):
        said = {"answer": next(iter(said.values()))}
    words = {name: texts[0] if len(texts) == 1 else texts for name, texts in said.items()}
    if isinstance(words.get("answer"), list):
        words["answers"] = words.pop("answer")
    named = {"id": row["id"]} if "id" in row and "id" not in data else {}
    return {**named, **data, **words}


def _results(annotation: Mapping[str, object], path: Path, place: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    results = annotation.get("result")
    for result in results if isinstance(results, list) else []:
        name, kind, value = (
            result.get(key) if isinstance(result, Mapping) else None for key in ("from_name", "type", "value")
        )
        texts = _texts(value)
        if texts is None:
            problem = f"the result under {name} is of the type {kind}, which is not read as words"
            remedy = f"Read are {listed(_READ)}: take results of other types out of the export."
            raise RecordError(problem, remedy=remedy, file=path, record=place, code="label_studio.type")
        if isinstance(value, Mapping) and "choices" in value and len(texts) > 1:
            problem = f"one annotator chose {len(texts)} of {name}"
            remedy = "Let one be chosen (choice: single), or take the task out."
            raise RecordError(problem, remedy=remedy, file=path, record=place, code="label_studio.several_choices")
        found.setdefault(str(name), []).extend(texts)
    return found


def _texts(value: object) -> list[str] | None:
    """The words of a result's value; None where it holds anything else, such as the place of a region."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    key, held = next(iter(value.items()))
    entries = held if isinstance(held, list) and key in _LISTS else [held]
    if key not in _READ or not all(isinstance(entry, str | int | float) for entry in entries):
        return None
    return None if any(isinstance(entry, bool) for entry in entries) else list(map(str, entries))
