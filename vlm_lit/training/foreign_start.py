"""Start from an adapter that another program saved: what its folder says of the base, the template and the tokens.

There is no fingerprint and so no digest, but most programs write the base's name, and their processor, beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from vlm_lit.data.checkpoint.processors import template_sha256
from vlm_lit.models.adapter_settings import CONFIG

_TOKENS: Final = "tokenizer.json"
_STORED: Final = re.compile(r"(-unsloth)?-bnb-\d+bit$")
"""What the name of a copy ends in that differs from its base in how weights are stored alone."""


def differences(adapter: Path, model_id: str, base: Path, processor: Mapping[str, Any] | None) -> list[str]:
    """In what a folder says that its adapter was trained otherwise than this run would go on, each as a sentence.

    Args:
        adapter: the folder.
        model_id: folder or hub id of this run's base.
        base: folder of the base's files.
        processor: this run's, as `processor_identity` gives it; None where there are no data.
    """
    found = []
    named = _settings(adapter / CONFIG).get("base_model_name_or_path")
    if isinstance(named, str) and named and _short(named) != _short(model_id):
        found.append(
            f"{adapter / CONFIG} names {named} as its base, and this run has {model_id}: on other weights its updates "
            "mean something else."
        )
    template = _template(adapter)
    if (
        processor is not None
        and template is not None
        and template_sha256(template) != processor["chat_template_sha256"]
    ):
        found.append(
            f"{adapter} holds another chat template than {model_id}, whose template this run writes its rows by. To go "
            "on with the adapter's, name a copy of the base with that template in it."
        )
    more = sorted(_added(adapter) - _added(base)) if (base / _TOKENS).is_file() else []
    if more:
        found.append(
            f"{adapter / _TOKENS} has {len(more)} tokens that {model_id} lacks (first: {more[0]!r:.60}): this run "
            "reads them as letters."
        )
    return found


def _short(name: str) -> str:
    """A base's name without its owner, its place on a disk, and how a copy of it is stored."""
    cached = [part for part in Path(name).parts if part.startswith("models--")]
    last = cached[-1].rpartition("--")[2] if cached else Path(name).name
    return _STORED.sub("", last.lower())


def _settings(path: Path) -> dict[str, Any]:
    """A file's settings; none where it cannot be read, which is said where it has to be."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def _template(folder: Path) -> str | None:
    """The chat template in a folder; None where there is none, or several."""
    own = folder / "chat_template.jinja"
    if (folder / "additional_chat_templates").is_dir():
        return None
    if own.is_file():
        return own.read_text(encoding="utf-8", errors="replace")
    files = ("chat_template.json", "processor_config.json", "tokenizer_config.json")
    held = [_settings(folder / name).get("chat_template") for name in files]
    return next((one for one in held if isinstance(one, str)), None)


def _added(folder: Path) -> set[str]:
    """The tokens that a folder's tokenizer has beside its vocabulary."""
    tokens = _settings(folder / _TOKENS).get("added_tokens")
    return {str(one.get("content")) for one in tokens or () if isinstance(one, dict)}
