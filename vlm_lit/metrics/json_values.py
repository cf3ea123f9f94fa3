"""Values of JSON objects compared: how right one is by each of the rules that a field may have."""

from __future__ import annotations

import json
from typing import Final

from vlm_lit.metrics.anls import anls_score
from vlm_lit.metrics.number import is_near
from vlm_lit.metrics.numerals import Quantity, quantities
from vlm_lit.vqa.normalize import vqa_normalise

FIELD_RULES: Final = ("exact", "text", "number", "set", "anls")
"""How a field may be compared."""


def value_score(how: str, said: object, true: object, tolerance: float) -> float:
    """How right a value is, in [0, 1].

    Args:
        how: one of FIELD_RULES.
        said: the answer's value.
        true: the true one.
        tolerance: how far a number may be off, as a share of the true one.
    """
    if how == "number":
        return _near(said, true, tolerance)
    if how == "set":
        return _overlap(said, true)
    if how == "text":
        return float(vqa_normalise(_text(said)) == vqa_normalise(_text(true)))
    if how == "anls":
        return anls_score(_text(said), [_text(true)])
    return float(spelled(said) == spelled(true))


def _near(said: object, true: object, tolerance: float) -> float:
    value, truth = _number(said), _number(true)
    if value is None or truth is None:
        return float(spelled(said) == spelled(true))
    same = value.in_unit_of(truth)
    return float(same is not None and is_near(same, truth.value, tolerance * abs(truth.value)))


def usual_rule(true: object) -> str:
    """How a value is compared where no rule says."""
    if isinstance(true, int | float) and not isinstance(true, bool):
        return "number"
    return "set" if isinstance(true, list) else "exact"


def _number(value: object) -> Quantity | None:
    if isinstance(value, str):
        found = quantities(value)
        return found[0] if len(found) == 1 else None
    return Quantity(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _overlap(said: object, true: object) -> float:
    """F1 of two lists' entries, each counted as often as it occurs; of two empty ones 1."""
    if not isinstance(said, list) or not isinstance(true, list):
        return float(spelled(said) == spelled(true))
    left = [spelled(entry) for entry in true]
    shared = 0
    for entry in map(spelled, said):
        if entry in left:
            left.remove(entry)
            shared += 1
    return 2 * shared / (len(said) + len(true)) if said or true else 1.0


def _text(value: object) -> str:
    return value if isinstance(value, str) else spelled(value)


def spelled(value: object) -> str:
    """One text for equal values: keys in order, whole numbers without a point."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [_plain(inside) for inside in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
