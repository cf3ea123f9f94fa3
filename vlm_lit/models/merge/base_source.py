"""Files of an adapter's base model, and the check that they are those the adapter was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import snapshot_download

from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.strict_json import read_json
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, file_sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")
_KINDS: Final = (
    ("processor", dict), ("answers", list), ("global_step", int), ("parts", dict), ("versions", dict), ("lora", dict),
)  # fmt: skip
_OF_BASE: Final = (("model_id", str), ("revision", str), ("commit", str), ("weights_sha256", dict))


@dataclass(frozen=True, kw_only=True)
class BaseSource:
    """A base's files.

    Args:
        folder: where they lie on this machine.
        model_id: folder or hub id that they were found by.
        commit: commit on the hub, where it is known.
        verified: whether a digest or a commit shows that they are those the adapter was trained on.
    """

    folder: Path
    model_id: str
    commit: str | None
    verified: bool


def adapter_folder(run: Path) -> Path:
    """The adapter of a run directory, or `run` itself where it is one.

    Raises:
        ConfigError: there is none.
    """
    for folder in (run / "adapter", run):
        if (folder / WEIGHTS).is_file() and (folder / "adapter_config.json").is_file():
            return folder
    raise ConfigError(
        f"{run} holds no adapter: neither {WEIGHTS} with its adapter_config.json, nor a folder adapter/ with them. "
        "Name the directory of a finished run."
    )


def read_fingerprint(adapter: Path) -> dict[str, Any]:
    """What was written beside an adapter when it was saved.

    Raises:
        ConfigError: nothing was, or it cannot be read.
    """
    path = adapter / FINGERPRINT
    try:
        found = read_json(path, remedy="Use a folder that fit wrote.", any_value=True)
    except RecordError as error:
        raise ConfigError(f"the adapter's base is unknown: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("base"), dict):
        raise ConfigError(f"{path} does not name the adapter's base. Use a folder that fit wrote.")
    base = found["base"]
    if base.get("model_id") is None:
        raise ConfigError(f"{path} does not name the adapter's base. Use a folder that fit wrote.")
    for key, kind, holder in (*((key, kind, found) for key, kind in _KINDS), *((k, t, base) for k, t in _OF_BASE)):
        if holder.get(key) is not None and not isinstance(holder[key], kind):
            raise ConfigError(f"{path}: {key} is a {type(holder[key]).__name__}. Use a folder that fit wrote.")
    for name, digest in (base.get("weights_sha256") or {}).items():
        if not isinstance(digest, str):
            raise ConfigError(f"{path}: the digest of {name} is no text. Use a folder that fit wrote.")
    return found


def find_base(fingerprint: Mapping[str, Any], elsewhere: str | None = None) -> BaseSource:
    """The files of the base that `fingerprint` names, proven unchanged as far as it can tell.

    Args:
        fingerprint: what `read_fingerprint` gives.
        elsewhere: folder or hub id to take the base from instead of the place it was trained from.

    Raises:
        ConfigError: it is not there, it is stored quantized, or it is another one than was trained on.
    """
    base = fingerprint["base"]
    model_id = elsewhere or str(base["model_id"])
    folder = _folder(model_id, base, moved=elsewhere is not None)
    _refuse_quantized(folder)
    verified = is_base(folder, base, elsewhere="Name an unchanged copy by --base")
    return BaseSource(folder=folder, model_id=model_id, commit=_commit(folder), verified=verified)


def is_base(
    folder: Path, base: Mapping[str, Any], *, elsewhere: str, digest: Callable[[Path], str] = file_sha256
) -> bool:
    """Whether a digest or a commit shows that the files in a folder are those the adapter was trained on.

    Args:
        folder: the files.
        base: what the adapter's fingerprint says of its base.
        elsewhere: how a user names another folder, for the error.
        digest: gives a weight file's SHA-256.

    Raises:
        ConfigError: they are others.
    """
    kept, commit = base.get("weights_sha256") or {}, _commit(folder)
    other = _other_files(folder, kept, digest) if kept else _other_commit(commit, base.get("commit"))
    if other is not None:
        raise ConfigError(
            f"The base in {folder} is not the one the adapter was trained on: {other}. {elsewhere}, or train the "
            "adapter again on this base."
        )
    return bool(kept or (commit and base.get("commit")))


def _commit(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds."""
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def _folder(model_id: str, base: Mapping[str, Any], *, moved: bool) -> Path:
    local = Path(model_id).expanduser()
    if local.is_dir():
        return local
    was_local = bool(base.get("weights_sha256")) and not moved
    if was_local or model_id.startswith((".", "/", "~")) or model_id.count("/") != 1:
        raise ConfigError(
            f"The base {model_id!r} is not a folder here. Run this where the run was started, or say by --base where "
            "it lies now."
        )
    try:
        # Sub-folders hold other formats of the same weights, and so do `consolidated` files.
        return Path(
            snapshot_download(
                model_id,
                revision=base.get("commit") or base.get("revision"),
                allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "NOTICE*"],
                ignore_patterns=["*/*", "consolidated*"],
            )
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"The base {model_id!r} (commit {base.get('commit') or 'unknown'}) cannot be fetched: {reason} "
            "If it is gated, log in with hf auth login; or name a folder that holds it by --base."
        ) from error


def _refuse_quantized(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"The base in {folder} has no readable config.json. Fetch it again.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"The config.json of the base in {folder} holds no settings. Fetch it again.")
    if "quantization_config" in config:
        raise ConfigError(
            f"The base in {folder} is stored quantized, and merging into quantized weights rounds them again. Train "
            "from the 16-bit checkpoint it was made from: 4-bit layers are made from it while it is loaded."
        )


def _other_files(folder: Path, kept: Mapping[str, str], digest: Callable[[Path], str]) -> str | None:
    """What is another weight file than in training; None where each has the digest it had."""
    found = {path.name for path in folder.glob("*.safetensors")}
    missing, extra = sorted(kept.keys() - found), sorted(found - kept.keys())
    if missing or extra:
        return f"it lacks {', '.join(missing)}" if missing else f"{', '.join(extra)} is new in it"
    for name, was in kept.items():
        now = digest(folder / name)
        if now != was:
            return f"the SHA-256 of {name} is {now[:12]}..., was {was[:12]}..."
    return None


def _other_commit(commit: str | None, kept: str | None) -> str | None:
    """What is another commit than in training; None where it is the same, or one of the two is not known."""
    return f"it is commit {commit}, was {kept}" if kept and commit and kept != commit else None
