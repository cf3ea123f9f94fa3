"""What lies where a data set's path points: which files, of which kind, or a data set of the hub?"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from vlm_lit.data.splits import Split, files_of_split, read_split, wrong_split
from vlm_lit.schema import RecordError

FORMATS_HINT: Final = (
    "Accepted are .json, .jsonl, .parquet and .arrow files, a folder or pattern of Parquet or Arrow files, "
    "a folder written by save_to_disk, and a hub id owner/name."
)

Kind: TypeAlias = Literal["json", "jsonl", "parquet", "arrow", "saved", "hub"]

_SUFFIXES: Final[Mapping[str, Kind]] = {".json": "json", ".jsonl": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_NAME: Final = re.compile(r"\.(jsonl?|parquet|arrow|csv|tsv|txt|zip|gz|tar)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source once it is known what it is. `files` are empty for a saved folder and for the hub.

    The hub cuts slices itself, so there the name of `split` is all that was written.
    """

    kind: Kind
    name: str
    split: Split
    files: tuple[Path, ...] = ()
    folder: Path | None = None


def locate(source: str | Path, split: str) -> Source:
    """Find what `source` names; nothing but names is looked at.

    Raises:
        RecordError: nothing there, an unknown format, no such split.
    """
    if not str(source).strip() or "\0" in str(source):
        raise _not_found(repr(str(source)), "not a name")
    path = Path(source).expanduser()
    if path.exists() or glob.has_magic(str(source)):
        return _find_local(source, path, split)
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not _FILE_NAME.search(source):
        return Source(kind="hub", name=source, split=Split(name=split))
    raise _not_found(str(source), "no such file or folder")


def _find_local(source: str | Path, path: Path, text: str) -> Source:
    split = read_split(text)
    if split is None:
        remedy = "Write a name such as train, or a slice of it such as train[:90%]."
        raise wrong_split(str(source), f"the split {text!r} is not understood", remedy)
    if path.is_file():
        return Source(kind=_kind_of([path], str(path)), name=str(path), split=split, files=(path,), folder=path.parent)
    return _find_in_folder(path, split) if path.is_dir() else _find_by_pattern(path, split)


def _find_in_folder(folder: Path, split: Split) -> Source:
    if any((folder / marker).is_file() for marker in ("state.json", "dataset_dict.json")):
        return Source(kind="saved", name=str(folder), split=split, folder=folder)
    for kind in ("parquet", "arrow"):
        if files := sorted(folder.rglob(f"*.{kind}")):
            chosen = tuple(files_of_split(files, folder, split.name))
            return Source(
                kind=_kind_of(chosen, str(folder)), name=str(folder), split=split, files=chosen, folder=folder
            )
    raise _unknown_format(str(folder), "no Parquet or Arrow file in the folder")


def _find_by_pattern(pattern: Path, split: Split) -> Source:
    files = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - may be absolute
    if not files:
        raise _not_found(str(pattern), "no file matches")
    kind = _kind_of(files, str(pattern))
    if kind in ("json", "jsonl") and len(files) > 1:
        raise _unknown_format(str(pattern), f"{len(files)} JSON files match, and one is read at a time")
    folder = next(parent for parent in files[0].parents if all(file.is_relative_to(parent) for file in files))
    chosen = files if len(files) == 1 else files_of_split(files, folder, split.name)
    return Source(kind=kind, name=str(pattern), split=split, files=tuple(chosen), folder=folder)


def _kind_of(files: Sequence[Path], name: str) -> Kind:
    suffixes = {file.suffix.lower() for file in files}
    if len(suffixes) == 1 and (kind := _SUFFIXES.get(*suffixes)):
        return kind
    raise _unknown_format(name, f"the ending is {', '.join(repr(suffix) for suffix in sorted(suffixes))}")


def _not_found(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=f"Correct the path. {FORMATS_HINT}", file=name, code="records.not_found")


def _unknown_format(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=FORMATS_HINT, file=name, code="records.format")
