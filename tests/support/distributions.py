"""Metadata folders that give an installed library another version."""

from __future__ import annotations

from pathlib import Path


def pretend(folder: Path, name: str, version: str) -> str:
    """What `name` in that version says of itself, in `folder`; put that in front of `sys.path`."""
    said = folder / f"{name}-{version}.dist-info" / "METADATA"
    said.parent.mkdir(parents=True)
    said.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return str(folder)
