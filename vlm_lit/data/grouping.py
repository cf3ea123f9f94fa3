"""Grouping of items by a key, such as what names their images."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Grouped = TypeVar("Grouped")


def grouped(items: Iterable[Grouped], keys: Sequence[Hashable | None]) -> list[list[Grouped]]:
    """Items of one key together, in order of first appearance; those without a key alone."""
    groups: dict[Hashable, list[Grouped]] = {}
    for position, (item, key) in enumerate(zip(items, keys, strict=True)):
        groups.setdefault(("alone", position) if key is None else ("shared", key), []).append(item)
    return list(groups.values())
