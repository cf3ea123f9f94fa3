"""Facts about a processor in a checkpoint's files: its class name and its video settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from transformers import AutoConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils.hub import cached_file

from vlm_lit.files.checkpoint_settings import check_settings_file

# The files that may name a processor's class, and those that may hold its video settings, in the library's order.
_NAMING_FILES: Final = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)
_VIDEO_FILES: Final = ("video_preprocessor_config.json", "preprocessor_config.json")


def class_name(model_id: str, revision: str | None) -> str | None:
    """The name of the processor's class: what a file says, or else what the model's type has; None where neither does.

    Raises:
        ConfigError: a file is damaged.
    """
    contents = [_read(file, model_id, revision) for file in _NAMING_FILES]
    named = [found["processor_class"] for found in contents if found.get("processor_class") is not None]
    if named:
        return str(named[0])
    try:
        config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    usual = PROCESSOR_MAPPING_NAMES.get(config.model_type)
    return None if usual is None else str(usual)


def video_settings(model_id: str, revision: object) -> dict[str, object]:
    """The video settings of a checkpoint that keeps them in a file of their own, or has none but the pictures'.

    Raises:
        ConfigError: a file is damaged.
    """
    return next((found for found in (_read(file, model_id, revision) for file in _VIDEO_FILES) if found), {})


def _read(file: str, model_id: str, revision: object) -> dict[str, object]:
    """The contents of one of the checkpoint's JSON files; empty where it has no such file."""
    path = cached_file(
        model_id,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if path is None:
        return {}
    check_settings_file(Path(path))
    contents: dict[str, object] = json.loads(Path(path).read_bytes())
    return contents
