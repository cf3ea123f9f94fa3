"""A run's image settings, written into the files of a checkpoint that is made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from transformers import ProcessorMixin

_NESTED: Final = "processor_config.json"
_FLAT: Final = "preprocessor_config.json"


def write_image_settings(processor: ProcessorMixin, folder: Path) -> list[str]:
    """Put the settings of a processor's image processor into the files that say them; nothing where none are a run's.

    Args:
        processor: as the run had it.
        folder: a checkpoint with the processor's files.

    Returns:
        What other programs have to say themselves, a sentence each.
    """
    if not getattr(processor, "image_settings", None):
        return []
    nested = _read(folder / _NESTED)
    if "image_processor" in nested:
        changed = {**nested, "image_processor": _with_settings(nested["image_processor"], processor)}
        _write(folder / _NESTED, changed)
    else:
        _write(folder / _FLAT, _with_settings(_read(folder / _FLAT), processor))
    return _unwritten(processor)


def _with_settings(kept: dict[str, Any], processor: ProcessorMixin) -> dict[str, Any]:
    """A file's settings replaced; what else stands there stays, older names of the settings do not."""
    images = processor.image_processor
    others = {key: value for key, value in kept.items() if key not in images.valid_kwargs.__annotations__}
    return {**others, **json.loads(images.to_json_string())}


def _unwritten(processor: ProcessorMixin) -> list[str]:
    """Settings that the processor's class says at each call, whatever the files hold."""
    usual = getattr(type(processor), "images_kwargs", {})
    said = {key: value for key, value in getattr(processor, "images_kwargs", {}).items() if usual.get(key) != value}
    name = type(processor).__name__
    return [
        f"{name} says {key}={usual.get(key)} at each call, whatever its files hold; the run had {value}. Hand "
        f"{key}={value} to it."
        for key, value in said.items()
    ]


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
