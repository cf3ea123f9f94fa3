"""Class-label columns: their integers replaced by the class names that they stand for.

`datasets` stores a `ClassLabel` as an integer and keeps the names in the features of the table (ChartQA's
`human_or_machine` is 0 or 1). An integer would be a meaningless answer, and a breakdown nobody can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

UNLABELLED = -1
"""What `datasets` stores where the class is not known, as in a test split kept secret."""


@dataclass(frozen=True)
class Each:
    """A list, and the names of what it holds."""

    of: LabelNames


LabelNames: TypeAlias = tuple[str, ...] | Mapping[str, "LabelNames"] | Each
"""Names by class, where in a value they apply: to it, to a field of it, or to each of its elements."""


class UnknownClass(ValueError):  # noqa: N818 - a finding about a value; `RecordError` is what users see
    """A class that has no name."""


def label_names(features: Mapping[str, object] | None) -> Mapping[str, LabelNames]:
    """The columns that hold class labels, however deep, with their names; empty where nothing says features."""
    found = {column: _names(feature) for column, feature in (features or {}).items()}
    return {column: names for column, names in found.items() if names is not None}


def _names(feature: object) -> LabelNames | None:
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return tuple(feature.names)
    if isinstance(feature, Mapping):
        return label_names(feature) or None
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    names = _names(inner) if inner is not None else None
    return Each(names) if names is not None else None


def named(value: object, names: LabelNames) -> object:
    """`value` with its class integers replaced by their names; None where the class is not known.

    Raises:
        UnknownClass: an integer beyond the names.
    """
    if value is None:
        return None
    if isinstance(names, Each):
        assert isinstance(value, list | tuple)
        return [named(element, names.of) for element in value]
    if isinstance(names, Mapping):
        assert isinstance(value, Mapping)
        return {key: named(inner, names[key]) if key in names else inner for key, inner in value.items()}
    assert isinstance(value, int)
    if value == UNLABELLED:
        return None
    if not 0 <= value < len(names):
        raise UnknownClass(f"the class {value} has no name; there are {len(names)}: {', '.join(names[:10])}")
    return names[value]
