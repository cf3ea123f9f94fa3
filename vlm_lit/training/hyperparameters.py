"""Constructor arguments of a module, as plain values that a checkpoint may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.parsing import collect_init_args

_PLAIN = (int, float, str, bool, type(None))


def arguments(frame: FrameType | None) -> dict[str, Any]:
    """The arguments of the constructor that runs in `frame`, and of its subclass's, if it was called by one."""
    assert frame is not None  # CPython has frames
    merged: dict[str, Any] = {}
    for level in collect_init_args(frame, [], classes=(LightningModule,)):
        merged |= level
    return merged


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain values; an argument that has none is left out, to be given again by whoever loads the file."""
    values = {name: _plain(value) for name, value in settings.items()}
    return {name: value for name, value in values.items() if value is not _plain}


def _plain(value: object) -> object:
    """The value in plain types; this function itself where it has no such form, as None is a value."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        items = {str(key): _plain(inner) for key, inner in value.items()}
        return items if _plain not in items.values() else _plain
    if isinstance(value, (list, tuple)):
        inside = [_plain(inner) for inner in value]
        return inside if _plain not in inside else _plain
    return _plain
