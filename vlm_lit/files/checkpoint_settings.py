"""Settings in a checkpoint's files, judged before any library acts on them: a checkpoint comes from somebody else.

No setting of theirs may fetch code, and none may ask for more than a machine has: a layer count of a billion is built
until the memory is full, and so is a picture that is to be a million pixels wide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vlm_lit.errors import ConfigError

FILES: Final = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "model.safetensors.index.json",
)
MOST_LAYERS: Final = 10_000
MOST_TILES: Final = 1000
LONGEST_EDGE: Final = 20_000
"""Pixels. The largest pictures that a published processor makes have 4,000 a side."""

MOST_PIXELS: Final = 89_478_485
"""As many as a picture may have that is read."""

_MOST_BYTES: Final = 100_000_000
_LAYERS: Final = re.compile(r".*(?:layers?|depths?|blocks|experts|stages)")
_TILES: Final = re.compile(r".*(?:tiles|max_patches|min_patches|max_crops|num_crops)")
_EDGES: Final = ("height", "width", "shortest_edge", "longest_edge")
_SIZES: Final = ("size", "crop_size", "pad_size", "image_size", "max_image_size", "max_size", "image_grid_pinpoints")


def check_checkpoint_settings(folder: Path, files: tuple[str, ...] = FILES) -> None:
    """Refuse settings of a checkpoint's folder that no model needs.

    Args:
        folder: its files; nothing is refused of a folder that is not there.
        files: names of the files to read, those that are there.

    Raises:
        ConfigError: a file is damaged, names code of the hub, asks for more than a machine has, or is a link to
            something else.
    """
    if folder.is_dir():
        _refuse_stray_links(folder)
    for name in files:
        path = folder / name
        if path.exists():
            check_settings_file(path)


def check_settings_file(path: Path) -> None:
    """Refuse one file's settings; see `check_checkpoint_settings`.

    Raises:
        ConfigError: it is damaged, or a setting of it is refused.
    """
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path} is no file of settings. Fetch the checkpoint's files again.")
    try:
        content = json.loads(path.read_bytes())  # as the libraries read it, which take a key twice
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}). Fetch the checkpoint's files again.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings, but a {type(content).__name__}. Fetch it again.")
    for key, value, beside in _settings(content):
        problem = _problem(key, value, beside)
        if problem is not None:
            raise ConfigError(f"{path}: {key} {problem}. If you trust whom it comes from, correct the file.")


def _refuse_stray_links(folder: Path) -> None:
    """Refuse a link to a file that is no checkpoint's: `merge` would copy what a stranger's folder names."""
    for path in sorted(folder.iterdir()):
        if not path.is_symlink():
            continue
        target = path.resolve()
        # The hub's cache links to blobs, and people link to weights on another disk.
        of_a_checkpoint = target.parent.name == "blobs" or target.name == path.name or target.suffix == ".safetensors"
        if not of_a_checkpoint and not target.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"{path} is a link to {target}, which is no file of a checkpoint. Copy what is meant there."
            )


def names_code(value: object) -> bool:
    """Whether a setting that says how layers are computed names a repository, whose code would be fetched and run."""
    held = value.values() if isinstance(value, Mapping) else [value]
    return any(isinstance(one, str) and "/" in one for one in held)


def _settings(content: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every key with its value and the mapping that it stands in."""
    waiting: list[Any] = [content]
    while waiting:
        here = waiting.pop()
        for key, value in here.items():
            yield key, value, here
            waiting += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _problem(key: str, value: Any, beside: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - whatever the file has
    """What is wrong with a setting; None where nothing is."""
    if "implementation" in key and names_code(value):
        return f"is {value}, a repository whose code would be run"
    most = max((abs(n) for n in _numbers(value)), default=0)
    if key == "weight_map" and isinstance(value, dict) and any("/" in str(file) for file in value.values()):
        return "names weights in another folder"
    if _LAYERS.fullmatch(key) and most > MOST_LAYERS:
        return f"is {most:,}, and no model has more than {MOST_LAYERS:,}"
    if _TILES.fullmatch(key) and most > MOST_TILES:
        return f"is {most:,}, and no picture is cut into more than {MOST_TILES:,} pieces"
    if key in _SIZES:
        return _too_large(value, counts="merge_size" in beside)
    if key == "min_pixels" and most > MOST_PIXELS:
        return f"is {most:,}, and no picture has more than {MOST_PIXELS:,}"
    return None


def _too_large(value: object, *, counts: bool) -> str | None:
    """What is wrong with the size that pictures get. Qwen's processors write numbers of pixels for edges."""
    edges = {k: n for k, n in value.items() if k in _EDGES} if isinstance(value, dict) else {"": value}
    if counts and "shortest_edge" in edges:
        edges = {"": 0}
        most, limit = max(_numbers(value["shortest_edge"]), default=0), MOST_PIXELS  # type: ignore[index]
    else:
        most, limit = max((abs(n) for n in _numbers(list(edges.values()))), default=0), LONGEST_EDGE
    return f"is {value}, and no picture is made larger than {limit:,}" if most > limit else None


def _numbers(value: object) -> list[float]:
    """The numbers that a value is or lists."""
    if isinstance(value, list):
        return [n for one in value for n in _numbers(one)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
