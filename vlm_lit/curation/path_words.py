"""Paths as other programs and machines write them, as plain relative or absolute ones; each change has a name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

_LOCAL_FILES: Final = re.compile(r"(?:https?://[^/]+)?/data/local-files/\?d=(.+)")
_UPLOADED: Final = re.compile(r"(?:https?://[^/]+)?/data/upload/(?:\d+/)?(.+)")
_UPLOAD_MARK: Final = re.compile(r"(?:.*/)?[0-9a-f]{8}-([^/]+)")
_DRIVE: Final = re.compile(r"[A-Za-z]:/")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def plain_path(text: str, prefixes: Mapping[str, str]) -> tuple[str, list[str]]:
    """The path with slashes, without a beginning that `prefixes` maps, and the names of what was changed."""
    changes: list[str] = []
    path = _changed(text.strip(), text, "white_space", changes)
    if path.lower().startswith("file://"):
        path = _changed(unquote(re.sub(r"(?i)^file://(?:localhost)?", "", path)), path, "file_url", changes)
        path = path[1:] if re.match(r"/[A-Za-z]:", path) else path
    path = _changed(path.replace("\\", "/"), path, "backslashes", changes)
    mapped = _mapped(path, prefixes)
    path = _changed(path if mapped is None else mapped, path, "prefix", changes)
    if found := _LOCAL_FILES.fullmatch(path) or _UPLOADED.fullmatch(path):
        path = _changed(unquote(found[1]), path, "label_studio", changes)
    if _URL.match(path):
        return path, changes
    return _changed(_without_dots(path), path, "dots", changes), changes


def _changed(after: str, before: str, name: str, changes: list[str]) -> str:
    if after != before:
        changes.append(name)
    return after


def _mapped(path: str, prefixes: Mapping[str, str]) -> str | None:
    """The path behind the longest prefix that it begins with; a Windows path in small or capital letters alike."""
    for old in sorted(prefixes, key=len, reverse=True):
        begins = old.replace("\\", "/").rstrip("/")
        same = path.lower().startswith(begins.lower()) if _DRIVE.match(path) else path.startswith(begins)
        if same and path[len(begins) : len(begins) + 1] in ("", "/"):
            new, rest = prefixes[old].replace("\\", "/").rstrip("/"), path[len(begins) :].lstrip("/")
            return f"{new}/{rest}" if new or prefixes[old].startswith("/") else rest
    return None


def _without_dots(path: str) -> str:
    """The path without `.` and empty parts; `..` takes the part before it away where there is one."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def is_url(path: str) -> bool:
    """Whether a plain path is an address on a network."""
    return _URL.match(path) is not None


def is_absolute(path: str) -> bool:
    """Whether a plain path starts from a disk's root."""
    return path.startswith("/") or _DRIVE.match(path) is not None


def other_spellings(path: str) -> Sequence[tuple[str, str]]:
    """What a name that is not there may have been: percent codes read, an upload's mark taken off; with the change."""
    found = [("percent", unquote(path))] if "%" in path else []
    if marked := _UPLOAD_MARK.fullmatch(path):
        found.append(("label_studio", path[: marked.start(1) - 9] + marked[1]))
    return found
