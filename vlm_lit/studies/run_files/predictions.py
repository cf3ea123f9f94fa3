"""Strict reading of a run's `predictions.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vlm_lit.errors import VlmLitError
from vlm_lit.files.strict_json import parse_json
from vlm_lit.schema import Prediction


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads a run's `predictions.jsonl`: one JSON object a line, with exactly the fields of `Prediction`.

    `choices` may be left out: only multiple choice questions have them. So may `confidence`, which only an answer
    chosen from a list has, `turn` and `unfinished`.

    Raises:
        VlmLitError: the file cannot be read, is empty, or a line is broken or repeats an id; names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise VlmLitError(f"{path}: cannot be read ({error.strerror}). Give the predictions.jsonl of a run.") from error
    first_line: dict[str, int] = {}
    predictions = [_parsed(line, where=f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    for number, prediction in enumerate(predictions, 1):
        if first_line.setdefault(prediction.id, number) != number:
            first = first_line[prediction.id]
            raise VlmLitError(f"{path}, line {number}: the id {prediction.id!r} already stands on line {first}.")
    if not predictions:
        raise VlmLitError(f"{path}: holds no predictions. Evaluate the run again.")
    return predictions


def _parsed(line: bytes, *, where: str) -> Prediction:
    row = parse_json(line, where, remedy="Evaluate again.", any_value=True)
    if not isinstance(row, dict) or {*row, *_OPTIONAL} != _CHECKS.keys():
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        needed = ", ".join(name for name in _CHECKS if name not in _OPTIONAL)
        raise VlmLitError(f"{where}: needs the fields {needed}; found {found}.")
    row = {**_OPTIONAL, **row}
    wrong = [name for name, is_right in _CHECKS.items() if not is_right(row[name])]
    if wrong:
        raise VlmLitError(
            f"{where}: {', '.join(f'{name} = {row[name]!r}' for name in wrong)} cannot be. Evaluate again."
        )
    return Prediction(**{**row, "references": tuple(row["references"]), "choices": tuple(row["choices"])})


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_fraction_or_none(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_place_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "id": _is_text,
    "image": _is_text_or_none,
    "image_id": _is_text_or_none,
    "question": _is_text,
    "references": _is_texts,
    "prediction": _is_text,
    "score": _is_fraction_or_none,
    "groups": _is_text_by_text,
    "choices": _is_texts,
    "confidence": _is_fraction_or_none,
    "turn": _is_place_or_none,
    "unfinished": lambda value: isinstance(value, bool),
}
_OPTIONAL: Final[Mapping[str, object]] = {"choices": [], "confidence": None, "turn": None, "unfinished": False}
