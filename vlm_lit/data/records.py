"""Where do the records of a data set come from?

A `.json` or `.jsonl` file, a folder written by `datasets`, Arrow or Parquet files, or a data set of the hub. All
of them give `Record`s: by index (`read_records`) or one after the other (`stream_records`). Image columns stay
encoded as `{"bytes", "path"}`; no pixel is decoded here. No code that comes with a data set is ever run.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, overload

from vlm_lit.data.json_strict import iter_json_lines, iter_json_list
from vlm_lit.schema import ConfigError, Record, RecordError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

FORMATS_HINT: Final = (
    "Accepted are .json, .jsonl, .parquet and .arrow files, a folder or pattern of Parquet or Arrow files, "
    "a folder written by save_to_disk, and a hub id owner/name."
)

_Kind: TypeAlias = Literal["json", "jsonl", "parquet", "arrow", "saved", "hub"]

_SUFFIXES: Final[Mapping[str, _Kind]] = {".json": "json", ".jsonl": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_NAME: Final = re.compile(r"\.(jsonl?|parquet|arrow|csv|tsv|txt|zip|gz|tar)$", re.IGNORECASE)
_READERS: Final = ("datasets.", "pyarrow.", "huggingface_hub.")
_HUB_REMEDY: Final = "No local file has this name; as a hub id, check it, the split, the network and your login."
_STREAM_ROWS: Final = 16
_SPLITS: Final = ("train", "validation", "val", "valid", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A source once it is known what it is. `files` are empty for a saved folder and for the hub."""

    kind: _Kind
    name: str
    files: tuple[Path, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """What turns a row into a record."""

    file: Path | str
    image_root: Path | None
    columns: Mapping[str, str]

    def record(self, index: int, row: Mapping[str, object]) -> Record:
        return Record(file=self.file, index=index, fields=self._fields(index, row), image_root=self.image_root)

    def _fields(self, index: int, row: Mapping[str, object]) -> Mapping[str, object]:
        if not self.columns:
            return row
        for ours, theirs in self.columns.items():
            if theirs not in row:
                raise RecordError(
                    f"no column {theirs!r} to use as {ours!r}; there are {', '.join(map(repr, row))}",
                    remedy="Correct the setting `columns` (our name: theirs).",
                    file=self.file,
                    record=str(index),
                    code="records.missing_column",
                )
        renamed = {ours: row[theirs] for ours, theirs in self.columns.items()}
        taken = set(self.columns.values())
        return {key: value for key, value in row.items() if key not in taken} | renamed


class ArrowRecords(Sequence[Record]):
    """Records of an Arrow table that stay on disk until asked for; only the row asked for is read."""

    def __init__(self, table: Dataset, rows: range, naming: _Naming) -> None:
        self._table, self._rows, self._naming = table.with_format("arrow"), rows, naming

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> ArrowRecords: ...
    def __getitem__(self, index: int | slice) -> Record | ArrowRecords:
        if isinstance(index, slice):
            return ArrowRecords(self._table, self._rows[index], self._naming)
        row = self._rows[index]
        return self._naming.record(row, self._table[row].to_pylist()[0])


def read_records(
    source: str | Path,
    *,
    split: str = "train",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
) -> Sequence[Record]:
    """Open a data set for access by index: a list for JSON, `ArrowRecords` for everything else.

    Args:
        source: a path, a pattern of paths, or a hub id `owner/name`.
        split: which split. A single file is one split and ignores it.
        name: which configuration of a hub data set.
        columns: our field names to theirs, for example `{"question": "query", "answers": "label"}`.
        image_root: the folder relative image paths start from; the source's own folder by default.
        limit: use only this many records, the first ones.
        revision: which commit, tag or branch of a hub data set.

    Raises:
        RecordError: nothing there, an unknown format, a damaged file, a column that is missing.
        ConfigError: `limit` is not positive.
    """
    found, naming = _locate(source, columns, image_root, limit, split)
    with _unreadable(found):
        if found.kind in ("json", "jsonl"):
            return list(islice(_json_records(found, naming), limit))
        table = _open_table(found, split, name, revision)
        return ArrowRecords(table, range(len(table))[:limit], naming)


def stream_records(
    source: str | Path,
    *,
    split: str = "train",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
) -> Iterator[Record]:
    """Go through a data set once without holding it: JSON line by line, Parquet and the hub as they arrive.

    Arguments and errors are `read_records`'s; an error in a later record is raised when it is reached. A `.json`
    list has to be read whole as text, but its records are still made one at a time.
    """
    found, naming = _locate(source, columns, image_root, limit, split)
    return islice(_streamed(found, naming, split, name, revision), limit)


def _streamed(found: _Source, naming: _Naming, split: str, name: str | None, revision: str | None) -> Iterator[Record]:
    with _unreadable(found):
        if found.kind in ("json", "jsonl"):
            yield from _json_records(found, naming)
        elif found.kind in ("saved", "arrow"):  # memory-mapped: reading in order is streaming already
            table = _open_table(found, split, name, revision)
            yield from ArrowRecords(table, range(len(table)), naming)
        else:
            tables = _open_stream(found, split, name, revision).with_format("arrow").iter(batch_size=_STREAM_ROWS)
            # Plain iteration would give each loader worker some of the shards only; who gets which is not its affair.
            for index, row in enumerate(row for table in tables for row in table.to_pylist()):
                yield naming.record(index, row)


def _json_records(found: _Source, naming: _Naming) -> Iterator[Record]:
    (path,) = found.files
    rows = iter_json_list(path) if found.kind == "json" else iter_json_lines(path)
    index = -1
    for index, row in enumerate(rows):
        yield naming.record(index, row)
    if index < 0:
        raise RecordError("no records", remedy="Write at least one.", file=path, code="records.none")


def _open_table(found: _Source, split: str, name: str | None, revision: str | None) -> Dataset:
    import datasets

    if found.kind == "arrow":
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in found.files])
    if found.kind == "parquet":
        return datasets.load_dataset("parquet", data_files=[str(file) for file in found.files], split="train")
    if found.kind == "hub":
        return datasets.load_dataset(found.name, name, split=split, revision=revision)
    saved = datasets.load_from_disk(found.name)
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise _no_such_split(found.name, split, saved)
        return saved[split]
    return saved


def _open_stream(found: _Source, split: str, name: str | None, revision: str | None) -> IterableDataset:
    import datasets

    if found.kind == "parquet":
        files = [str(file) for file in found.files]
        return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return datasets.load_dataset(found.name, name, split=split, revision=revision, streaming=True)


def _locate(
    source: str | Path, columns: Mapping[str, str] | None, image_root: Path | None, limit: int | None, split: str
) -> tuple[_Source, _Naming]:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; write a number of records from 1 up, or null for all.")
    found = _find(source, split)
    root = image_root if image_root is not None else _default_image_root(found)
    file = found.files[0] if len(found.files) == 1 else found.name
    return found, _Naming(file=file, image_root=root, columns=columns or {})


def _default_image_root(found: _Source) -> Path:
    if found.kind == "hub":
        # `datasets` unpacks a hub data set's image files below its own cache and stores their absolute paths.
        import datasets

        return Path(datasets.config.HF_CACHE_HOME)
    return found.folder or Path()


def _find(source: str | Path, split: str) -> _Source:
    if not str(source).strip() or "\0" in str(source):
        raise _not_found(repr(str(source)), "not a name")
    path = Path(source).expanduser()
    if path.is_file():
        return _Source(kind=_kind_of([path], str(path)), name=str(path), files=(path,), folder=path.parent)
    if path.is_dir():
        return _find_in_folder(path, split)
    if glob.has_magic(str(source)):
        return _find_by_pattern(path, split)
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not _FILE_NAME.search(source):
        return _Source(kind="hub", name=source)
    raise _not_found(str(source), "no such file or folder")


def _find_in_folder(folder: Path, split: str) -> _Source:
    if any((folder / marker).is_file() for marker in ("state.json", "dataset_dict.json")):
        return _Source(kind="saved", name=str(folder), folder=folder)
    for kind in ("parquet", "arrow"):
        if files := sorted(folder.rglob(f"*.{kind}")):
            chosen = _of_split(files, folder, split)
            return _Source(kind=_kind_of(chosen, str(folder)), name=str(folder), files=tuple(chosen), folder=folder)
    raise _unknown_format(str(folder), "no Parquet or Arrow file in the folder")


def _find_by_pattern(pattern: Path, split: str) -> _Source:
    files = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - may be absolute
    if not files:
        raise _not_found(str(pattern), "no file matches")
    kind = _kind_of(files, str(pattern))
    if kind in ("json", "jsonl") and len(files) > 1:
        raise _unknown_format(str(pattern), f"{len(files)} JSON files match, and one is read at a time")
    folder = next(parent for parent in files[0].parents if all(file.is_relative_to(parent) for file in files))
    chosen = files if len(files) == 1 else _of_split(files, folder, split)
    return _Source(kind=kind, name=str(pattern), files=tuple(chosen), folder=folder)


def _of_split(files: Sequence[Path], folder: Path, split: str) -> Sequence[Path]:
    """The files whose name or folder says `split`; all of them where no file says any split."""
    words = {file: set(re.split(r"[-_./]", str(file.relative_to(folder)))) for file in files}
    chosen = [file for file in files if split in words[file]]
    named = {word for found in words.values() for word in found if word in _SPLITS}
    if not chosen and named:
        raise _no_such_split(str(folder), split, sorted(named))
    return chosen or files


def _kind_of(files: Sequence[Path], name: str) -> _Kind:
    suffixes = {file.suffix.lower() for file in files}
    if len(suffixes) == 1 and (kind := _SUFFIXES.get(*suffixes)):
        return kind
    raise _unknown_format(name, f"the ending is {', '.join(repr(suffix) for suffix in sorted(suffixes))}")


def _not_found(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=f"Correct the path. {FORMATS_HINT}", file=name, code="records.not_found")


def _unknown_format(name: str, problem: str) -> RecordError:
    return RecordError(problem, remedy=FORMATS_HINT, file=name, code="records.format")


def _no_such_split(name: str, split: str, there: Iterable[str]) -> RecordError:
    problem = f"no split {split!r}"
    return RecordError(problem, remedy=f"There are: {', '.join(there)}.", file=name, code="records.split")


@contextmanager
def _unreadable(found: _Source) -> Iterator[None]:
    """Say in the user's words what the libraries below could not read."""
    try:
        yield
    except (ConfigError, RecordError):
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and not type(error).__module__.startswith(_READERS):
            raise
        code = "records.hub" if found.kind == "hub" else "records.unreadable"
        remedy = _HUB_REMEDY if found.kind == "hub" else "Copy or write it again."
        reason = str(error.__cause__ or error).split("\n")[0]
        raise RecordError(f"cannot be read ({reason})", remedy=remedy, file=found.name, code=code) from error
