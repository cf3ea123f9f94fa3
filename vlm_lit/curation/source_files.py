"""Files of a source: every data file that a path, a folder or a pattern means, and the split that its name says."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.curation.previous import SUMMARY
from vlm_lit.data.records.locate import FORMATS_HINT, NO_ROWS, SAVED, TEXT, locate
from vlm_lit.data.records.splits import read_split, split_of_word, words_of_name
from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import format_of

CVAT: Final = ".xml"
_TABLES: Final = (".parquet", ".arrow", ".tar")
_ENDINGS: Final = (*TEXT, CVAT, *_TABLES)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """What is read at once: a file, or, without one, a saved folder or hub id under `name`.

    `folder` is what relative paths in it start from, None where only the reader knows. `split` is what its name says.
    """

    name: str
    path: Path | None
    folder: Path | None
    split: str | None = None


def source_files(source: str, split: str) -> list[SourceFile]:
    """The files that a source means, in the order of their names.

    Raises:
        RecordError: nothing there, or no file of a known kind.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [_file(path)]
    if path.is_dir():
        return _in_folder(path, split)
    if glob.has_magic(source):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - may be absolute
        if files := [file for file in found if file.is_file()]:
            return [_file(file) for file in files]
    found_there = locate(source, split)  # a hub id, or the error that says what is wrong
    return [SourceFile(name=found_there.name, path=None, folder=None, split=_said_by_setting(split))]


def _in_folder(folder: Path, split: str) -> list[SourceFile]:
    if any((folder / marker).is_file() for marker in SAVED):
        return [SourceFile(name=str(folder), path=None, folder=folder, split=_said_by_setting(split))]
    files = _data_files(folder, "*") or _data_files(folder, "**/*")
    if not files:
        raise RecordError("no data file in the folder", remedy=FORMATS_HINT, file=folder, code="records.format")
    return [_file(file) for file in files]


def _data_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if format_of(path) in _ENDINGS
        and path.name not in NO_ROWS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (path.parent / SUMMARY).exists()  # what `curate` wrote
        and path.is_file()
    )


def _file(path: Path) -> SourceFile:
    if format_of(path) not in _ENDINGS:
        problem = f"files that end in {path.suffix or 'nothing'} are not read"
        raise RecordError(
            problem, remedy=f"{FORMATS_HINT} CVAT's .xml is read as well.", file=path, code="records.format"
        )
    words = [*re.split(r"[-_. ]", path.name.lower()), path.parent.name.lower()]
    split = next((found for word in words if (found := said_split(word)) is not None), None)
    return SourceFile(name=str(path), path=path, folder=path.parent, split=split)


def said_split(word: object) -> str | None:
    """`train`, `val` or `test` for a word that means it, also with a year (`test-dev2015`); None for any other."""
    found = split_of_word("".join(words_of_name(word))) if isinstance(word, str) else None
    return found if found != "eval" else None


def _said_by_setting(split: str) -> str | None:
    cut = read_split(split)
    return said_split(split if cut is None else cut.name)
