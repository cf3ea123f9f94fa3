"""A row of a source as it was read, or why it could not be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlm_lit.errors import RecordError


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One row: `fields`, or the `problem` that it has none for.

    `source` is the file or hub id, `index` counts its rows from 0, `line` its lines from 1, None where it has none.
    `folder` is what relative paths start from. `split` is what the source says of it, in our word. `ends` says that
    nothing of the file could be read from here on.
    """

    source: str
    index: int
    folder: Path
    line: int | None = None
    fields: Mapping[str, object] | None = None
    problem: RecordError | None = None
    split: str | None = None
    ends: bool = False


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A row of one file: where it stands, and its fields or what is wrong with it."""

    index: int
    line: int | None
    found: Mapping[str, object] | RecordError
    ends: bool = False
