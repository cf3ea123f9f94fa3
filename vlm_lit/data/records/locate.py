"""Resolution of a data set's path: its files and their kind, or a data set of the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from vlm_lit.data.records.splits import Split, files_of_split, read_split, split_of_word, words_of_name, wrong_split
from vlm_lit.errors import RecordError, nearest
from vlm_lit.files.open_text import format_of

FORMATS_HINT: Final = (
    "Accepted are .json, .jsonl, .csv and .tsv files, also packed (.jsonl.gz), .parquet, .arrow and WebDataset .tar "
    "files, a folder or pattern of one kind of them, a folder with metadata.jsonl or metadata.csv, a folder written by "
    "save_to_disk, a list of any of these, and a hub id owner/name."
)

Kind: TypeAlias = Literal["text", "parquet", "arrow", "tar", "saved", "hub"]

TEXT: Final = (".json", ".jsonl", ".ndjson", ".jsonlines", ".csv", ".tsv")
_SUFFIXES: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(TEXT, "text"),
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tar": "tar",
}
_METADATA: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SAVED: Final = ("state.json", "dataset_dict.json")
"""Files that tell a folder which `save_to_disk` wrote."""
NO_ROWS: Final = ("dataset_info.json", "dataset_infos.json", "config.json", "curation.json")
"""Files of known endings that stand beside data and hold none."""
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_ENDINGS: Final = (*TEXT, ".parquet", ".arrow", ".tar", ".txt", ".zip", ".gz", ".tgz", ".xlsx", ".yaml", ".pkl")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source once it is known what it is. `files` are empty for a saved folder and for the hub.

    The hub cuts slices itself, so there the name of `split` is all that was written. Files of the kind `text` are JSON,
    JSON lines, CSV or TSV, each by its own ending.
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
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not _means_a_file(path):
        return Source(kind="hub", name=source, split=Split(name=split))
    raise _not_found(str(source), f"no such file or folder{_nearest(path)}")


def _means_a_file(path: Path) -> bool:
    """Whether a name that may be a hub id is a mistyped path: its folder is there, or it ends as a file does."""
    ending = path.suffix.lower()
    mistyped = ending[1:].isalpha() and nearest(ending, _FILE_ENDINGS, cutoff=0.7) is not None
    return path.parent.exists() or ending in _FILE_ENDINGS or mistyped


def _nearest(path: Path) -> str:
    """What is there instead, if a name is close."""
    try:
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()], cutoff=0.7)
    except OSError:
        return ""
    return f" (there is {path.parent / near})" if near else ""


def _find_local(source: str | Path, path: Path, text: str) -> Source:
    split = read_split(text)
    if split is None:
        remedy = "Write a name such as train, or a slice of it such as train[:90%]."
        raise wrong_split(str(source), f"the split {text!r} is not understood", remedy)
    if path.is_file():
        return Source(kind=_kind_of([path], str(path)), name=str(path), split=split, files=(path,), folder=path.parent)
    return _find_in_folder(path, split) if path.is_dir() else _find_by_pattern(path, split)


def _find_in_folder(folder: Path, split: Split) -> Source:
    if any((folder / marker).is_file() for marker in SAVED):
        return Source(kind="saved", name=str(folder), split=split, folder=folder)
    if (metadata := _metadata(folder, split.name)) is not None:
        kind = _kind_of([metadata], str(folder))
        _refuse_beside(metadata, folder, split.name)
        return Source(kind=kind, name=str(folder), split=split, files=(metadata,), folder=metadata.parent)
    files = _data_files(folder)
    if not files:
        raise _unknown_format(str(folder), "no data file in the folder")
    chosen = files_of_split(files, folder, split.name)
    _refuse_several_kinds(chosen, folder)
    kind = _kind_of(chosen, str(folder))
    if kind == "text":
        _refuse_two_levels(files, chosen, folder)
    root = chosen[0].parent if kind == "text" and len(chosen) == 1 else folder
    return Source(kind=kind, name=str(folder), split=split, files=tuple(chosen), folder=root)


def _data_files(folder: Path) -> list[Path]:
    """Every file of a known kind in a folder and those within it, hidden ones aside."""
    return sorted(file for file in folder.rglob("*") if _is_data(file, folder))


def _is_data(file: Path, folder: Path) -> bool:
    return (
        (kind := _SUFFIXES.get(format_of(file))) is not None
        and (kind == "text" or file.suffix.lower() != ".gz")
        and file.name not in (*SAVED, *NO_ROWS)
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _refuse_several_kinds(files: Sequence[Path], folder: Path) -> None:
    if len({format_of(file) for file in files}) > 1:
        named = ", ".join(str(file.relative_to(folder)) for file in files)[:200]
        raise _unknown_format(str(folder), f"files of several kinds, {named}: name one, or a list of them")


def _refuse_two_levels(files: Sequence[Path], chosen: Sequence[Path], folder: Path) -> None:
    """Refuse texts of the folder itself beside texts further down: these may be data, or come with its pictures."""
    top = next((file for file in files if file.parent == folder and format_of(file) in TEXT), None)
    deep = next((file for file in chosen if file.parent != folder), None)
    if top is not None and deep is not None:
        problem = f"{top.name} is in the folder itself, and {deep.relative_to(folder)} further down"
        raise _unknown_format(str(folder), f"{problem}: name one, or a list of them")


def _metadata(folder: Path, split: str) -> Path | None:
    """The table of an image folder, or of its part for the split."""
    for place in (folder / split, folder):
        if found := [place / name for name in _METADATA if (place / name).is_file()]:
            _refuse_several_kinds(found, folder)
            return found[0]
    return None


def _refuse_beside(metadata: Path, folder: Path, split: str) -> None:
    """Refuse a table of pictures where a file beside it is named as the split: either may be what is meant."""
    meant = split_of_word(split) or split.casefold()
    beside = {*folder.iterdir(), *metadata.parent.iterdir()}  # not all of a folder of pictures
    for file in sorted(file for file in beside if _is_data(file, folder)):
        if meant in [split_of_word(word) or word for word in words_of_name(file.name)]:
            named = f"both {metadata.relative_to(folder)} and {file.relative_to(folder)}"
            raise _unknown_format(str(folder), f"{named} may be the split {split!r}: name one, or a list of them")


def _find_by_pattern(pattern: Path, split: Split) -> Source:
    files = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - may be absolute
    if not files:
        raise _not_found(str(pattern), "no file matches")
    kind = _kind_of(files, str(pattern))
    folder = next(parent for parent in files[0].parents if all(file.is_relative_to(parent) for file in files))
    chosen = files if len(files) == 1 else files_of_split(files, folder, split.name)
    return Source(kind=kind, name=str(pattern), split=split, files=tuple(chosen), folder=folder)


def _kind_of(files: Sequence[Path], name: str) -> Kind:
    suffixes = {format_of(file) for file in files}
    kinds = {_SUFFIXES.get(suffix) for suffix in suffixes}
    packed = any(file.suffix.lower() == ".gz" for file in files)
    if len(kinds) == 1 and (kind := next(iter(kinds))) is not None and (kind == "text" or not packed):
        return kind
    raise _unknown_format(name, f"the ending is {', '.join(repr(suffix) for suffix in sorted(suffixes))}")


def _not_found(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=f"Correct the path. {FORMATS_HINT}", file=name, code="records.not_found")


def _unknown_format(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=FORMATS_HINT, file=name, code="records.format")
