"""Strict reading of a `scores.json`, as the verb `score` writes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm_lit.errors import VlmLitError
from vlm_lit.files.strict_json import read_json


@dataclass(frozen=True, kw_only=True)
class ScoresFile:
    """What comparing needs of a `scores.json`. Scores are fractions in [0, 1].

    `overall` is the metric's own figure as the file has it, in percent, and need not be the mean of `per_item`: BLEU
    is not. None where the metric counts words.
    """

    metric: str
    options: Mapping[str, object]
    overall: float | None
    unparsed: int
    per_item: Mapping[str, float]
    image_ids: Mapping[str, str | None]


def read_scores(path: Path) -> ScoresFile:
    """Read what the verb `score` wrote.

    Raises:
        VlmLitError: the file cannot be read, is not of that form, judges nothing, or names an item twice.
    """
    if not path.is_file():
        raise VlmLitError(f"{path}: there is no such file. Give a scores.json or a run directory.")
    content = _checked(read_json(path, remedy="Score again.", any_value=True), path)
    return ScoresFile(**{name: content[name] for name in _CHECKS})


def _checked(content: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not content.keys() >= _CHECKS.keys():
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise VlmLitError(
            f"{path}: is not what the verb score writes: that has the keys {', '.join(_CHECKS)}; found {found[:200]}."
        )
    wrong = [name for name, is_right in _CHECKS.items() if not is_right(content[name])]
    if wrong:
        shown = ", ".join(f"{name} = {str(content[name])[:60]}" for name in wrong)
        raise VlmLitError(f"{path}: {shown} cannot be. per_item holds fractions from 0 to 1, by id. Score again.")
    if not content["per_item"]:
        raise VlmLitError(
            f"{path}: holds no score of any item, so there is nothing to compare by {content['metric'][:80]}. "
            "Score by a metric that judges items."
        )
    strangers = content["image_ids"].keys() - content["per_item"].keys()
    if strangers:
        raise VlmLitError(f"{path}: image_ids names {min(strangers)!r}, which per_item does not judge. Score again.")
    return content


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_fractions(value: object) -> bool:
    return isinstance(value, dict) and all(_is_number(score) and 0 <= score <= 1 for score in value.values())


def _is_texts_or_nulls(value: object) -> bool:
    return isinstance(value, dict) and all(entry is None or isinstance(entry, str) for entry in value.values())


_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "metric": lambda value: isinstance(value, str),
    "options": lambda value: isinstance(value, dict),
    "overall": lambda value: value is None or _is_number(value),
    "unparsed": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "per_item": _is_fractions,
    "image_ids": _is_texts_or_nulls,
}
