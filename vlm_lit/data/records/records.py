"""Records of a data set, read by index or as a stream, from files or the hub.

JSON, JSON lines, CSV and TSV files, a folder written by `datasets`, Arrow, Parquet and WebDataset files, or a data set
of the hub. All of them give `Record`s: by index (`read_records`) or one after the other (`stream_records`). Image
columns stay encoded as `{"bytes", "path"}`; no pixel is decoded here. Class labels are given by name. No code that
comes with a data set is ever run.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from tarfile import TarError
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vlm_lit.data.records.class_labels import label_names
from vlm_lit.data.records.json_rows import LARGE, JsonRecords, open_rows
from vlm_lit.data.records.locate import Source, locate
from vlm_lit.data.records.naming import Naming
from vlm_lit.data.records.parquet_columns import check_columns
from vlm_lit.data.records.record_sequences import ArrowRecords, ChainedRecords
from vlm_lit.data.records.splits import no_such_split, rows_of, wrong_split
from vlm_lit.data.records.tar_samples import TarRecords, later_samples
from vlm_lit.data.records.text_files import iter_rows, later_rows
from vlm_lit.data.records.unpacked_size import check_unpacked
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.open_text import is_packed_otherwise
from vlm_lit.files.pointers import LFS_PROBLEM, LFS_REMEDY, is_pointer_file
from vlm_lit.schema import Record

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_READERS: Final = ("datasets.", "pyarrow.", "huggingface_hub.")
_DAMAGED: Final = (OSError, ValueError, EOFError, zlib.error, TarError, struct.error, RecursionError, MemoryError)
_HUB_REMEDY: Final = "No local file has this name; as a hub id, check it, the split, the network and your login."
_STREAM_ROWS: Final = 16
_Row: TypeAlias = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How a source is to be read; see `read_records`. `part` names it among several."""

    split: str
    name: str | Sequence[str] | None
    columns: Mapping[str, str]
    image_root: Path | None
    revision: str | None
    key: str | None
    part: str = ""


def read_records(
    source: str | Path | Sequence[str],
    *,
    split: str = "train",
    name: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
    key: str | None = None,
) -> Sequence[Record]:
    """Open a data set for access by index: a list or `JsonRecords` for text files, `ArrowRecords` for everything else.

    Args:
        source: a path, a pattern of paths, a hub id `owner/name`, or a list of these, which follow one another.
        split: which split, or slice of one such as `train[:90%]`. A single file is one split, whatever its name.
        name: which configuration of a hub data set, or several, which follow one another.
        columns: our field names to theirs, for example `{"question": "query", "answers": "label"}`. A field within a
            column is written with a dot: `types.structural`.
        image_root: the folder relative image paths start from; the source's own folder by default.
        limit: use only this many records, the first ones.
        revision: which commit, tag or branch of a hub data set.
        key: under which key of a JSON file's one object the records stand; null to find it.

    Raises:
        RecordError: nothing there, an unknown format, a damaged file, a column that is missing.
        ConfigError: `limit` is not positive.
    """
    given = _Options(split=split, name=name, columns=columns or {}, image_root=image_root, revision=revision, key=key)
    _check_limit(limit)
    if isinstance(source, str | Path):
        return _read(source, given, limit)
    parts = [_read(one, replace(given, part=f"{one}:"), limit) for one in _several(source)]
    return ChainedRecords(parts)[:limit]


def _read(source: str | Path, given: _Options, limit: int | None) -> Sequence[Record]:
    found, naming = _opened(source, given)
    with _unreadable(found):
        if found.kind == "text":
            some = limit if found.split.is_whole else None
            records = _large(found, naming, given) if some is None else None
            if records is None:
                records = list(islice(_text_records(found, naming, given), some))
            rows = rows_of(found.split, len(records), found.name)
            return records[rows.start : rows.stop][:limit]
        if found.kind == "tar":
            samples = TarRecords(found.files, naming)
            rows = rows_of(found.split, len(samples), found.name)
            return samples[rows.start : rows.stop][:limit]
        table = _open_table(found, given)
        return ArrowRecords(table, rows_of(found.split, len(table), found.name)[:limit], naming)


def stream_records(
    source: str | Path | Sequence[str],
    *,
    split: str = "train",
    name: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
    key: str | None = None,
    later: bool = False,
) -> Iterator[Record]:
    """Go through a data set once without holding it: JSON line by line, Parquet and the hub as they arrive.

    Arguments and errors are `read_records`'s; an error in a later record is raised when it is reached. A `.json`
    list has to be read whole as text, but its records are still made one at a time. A slice is refused: where it
    ends follows from a length that a stream does not know.

    With `later` a row of a WebDataset archive, an Arrow file or a saved data set stays on disk until a field of its
    record is asked for, so that whoever needs some of the records reads these alone; a JSON line is parsed then.
    """
    given = _Options(split=split, name=name, columns=columns or {}, image_root=image_root, revision=revision, key=key)
    _check_limit(limit)
    if isinstance(source, str | Path):
        return islice(_stream(source, given, later), limit)
    opened = [_stream(one, replace(given, part=f"{one}:"), later) for one in _several(source)]
    return islice(chain.from_iterable(opened), limit)


def _stream(source: str | Path, given: _Options, later: bool) -> Iterator[Record]:
    found, naming = _opened(source, given)
    if not found.split.is_whole:
        remedy = "Set streaming to false, or take the first records by limit."
        raise wrong_split(found.name, f"a stream cannot be cut to {str(found.split)!r}", remedy)
    if found.kind in ("saved", "arrow", "tar"):
        return _placed(found, naming, given, later)
    return _streamed(found, naming, given, later)


def _streamed(found: Source, naming: Naming, given: _Options, later: bool) -> Iterator[Record]:
    with _unreadable(found):
        if found.kind == "text":
            yield from _text_records(found, naming, given, later)
            return
        stream = _open_stream(found, given)
        naming = replace(naming, labels=label_names(stream.features))
        tables = stream.with_format("arrow").iter(batch_size=_STREAM_ROWS)
        # Plain iteration would give each loader worker some of the shards only; who gets which is not its affair.
        for index, row in enumerate(row for table in tables for row in table.to_pylist()):
            yield naming.record(index, row)


def _placed(found: Source, naming: Naming, given: _Options, later: bool) -> Iterator[Record]:
    """The records of files in which a row can be read by its place."""
    with _unreadable(found):
        if found.kind == "tar":
            rows = later_samples(found.files)
        else:  # memory-mapped
            table = _open_table(found, given)
            records = ArrowRecords(table, range(len(table)), naming)
            naming, rows = records.naming, records.later()
        for index, row in enumerate(rows):
            yield naming.later(index, _readable(found, row)) if later else naming.record(index, row())


def _readable(found: Source, row: Callable[[], Mapping[str, object]]) -> Callable[[], Mapping[str, object]]:
    def read() -> Mapping[str, object]:
        with _unreadable(found):
            return row()

    return read


def _text_records(found: Source, naming: Naming, given: _Options, later: bool = False) -> Iterator[Record]:
    """The records of JSON, CSV and TSV files; each of several files names its records and roots its images."""
    for path in found.files:
        own = _named(path, found, naming, given)
        lines = later_rows(path) if later and given.key is None else None
        index = -1
        rows: Iterator[_Row | Callable[[], _Row]] = iter_rows(path, given.key) if lines is None else lines
        for index, row in enumerate(rows):
            yield own.record(index, row) if isinstance(row, dict) else own.later(index, row)
        if index < 0:
            raise RecordError("no records", remedy="Write at least one.", file=path, code="records.none")


def _large(found: Source, naming: Naming, given: _Options) -> Sequence[Record] | None:
    """The records of large JSON files, parsed one by one when asked for; None where a file is small, or of other form.

    A parsed record takes five times its bytes, and parsing a few hundred thousand takes seconds at each start.
    """
    if given.key is not None or sum(path.stat().st_size for path in found.files) < LARGE:
        return None
    texts = [open_rows(path) for path in found.files]
    parts = [
        JsonRecords(rows, _named(path, found, naming, given))
        for path, rows in zip(found.files, texts, strict=True)
        if rows is not None
    ]
    if len(parts) < len(texts):
        return None
    return parts[0] if len(parts) == 1 else ChainedRecords(parts)


def _named(path: Path, found: Source, naming: Naming, given: _Options) -> Naming:
    """What makes records of a file's rows: of several files each names its records and roots its images."""
    if len(found.files) == 1:
        return naming
    root = given.image_root if given.image_root is not None else path.parent
    part = f"{naming.part}{path.relative_to(found.folder or path.parent).as_posix()}:"
    return replace(naming, file=path, image_root=root, part=part)


def _several(sources: Sequence[str]) -> Sequence[str]:
    if not sources:
        raise ConfigError("path is an empty list; write a file or a hub id at least.")
    return sources


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; write a number of records from 1 up, or null for all.")


def _open_table(found: Source, given: _Options) -> Dataset:
    import datasets

    if found.kind == "arrow":
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in found.files])
    if found.kind == "parquet":
        files = [str(file) for file in found.files]
        return datasets.load_dataset("parquet", data_files=files, split="train")
    if found.kind == "hub":
        return _of_hub(found, given)
    saved = datasets.load_from_disk(found.name)
    if isinstance(saved, datasets.DatasetDict):
        if found.split.name not in saved:
            raise no_such_split(found.name, found.split.name, saved)
        return saved[found.split.name]
    return saved


def _open_stream(found: Source, given: _Options) -> IterableDataset:
    import datasets

    if found.kind == "parquet":
        files = [str(file) for file in found.files]
        return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return _of_hub(found, given, streaming=True)


def _of_hub(found: Source, given: _Options, **more: bool) -> Any:  # noqa: ANN401
    """A split of one configuration, or of several, one after the other; a table, or a stream if that is asked for."""
    import datasets

    name, revision = given.name, given.revision
    names = [name] if name is None or isinstance(name, str) else list(name)
    if not names:
        raise ConfigError(f"name is an empty list; write a configuration of {found.name}, or null for its only one.")
    split = found.split.name
    parts = [datasets.load_dataset(found.name, one, split=split, revision=revision, **more) for one in names]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _opened(source: str | Path, given: _Options) -> tuple[Source, Naming]:
    found = locate(source, given.split)
    for path in found.files:
        if is_pointer_file(path):
            raise RecordError(LFS_PROBLEM, remedy=LFS_REMEDY, file=path, code="records.lfs_pointer")
        if found.kind in ("text", "tar") and is_packed_otherwise(path):
            remedy = "Unpack it; a text that gzip packed may be named so instead, data.json.gz."
            raise RecordError("a packed file under another name", remedy=remedy, file=path, code="records.packed")
    if given.key is not None and found.kind != "text":
        raise ConfigError(f"records is {given.key}, which is for JSON files; {found.name} is none. Leave it out.")
    with _unreadable(found):
        check_unpacked(sorted(found.folder.rglob("*.arrow")) if found.kind == "saved" and found.folder else found.files)
        if found.kind == "parquet":
            check_columns(found.files)
    root = given.image_root if given.image_root is not None else _default_image_root(found)
    file = found.files[0] if len(found.files) == 1 else found.name
    shards = found.kind == "tar"
    return found, Naming(file=file, image_root=root, columns=given.columns, part=given.part, shards=shards)


def _default_image_root(found: Source) -> Path:
    if found.kind == "hub":
        # `datasets` unpacks a hub data set's image files below its own cache and stores their absolute paths.
        import datasets

        return Path(datasets.config.HF_CACHE_HOME)
    return found.folder or Path()


@contextmanager
def _unreadable(found: Source) -> Iterator[None]:
    """Say in the user's words what the libraries below could not read."""
    try:
        yield
    except (ConfigError, RecordError):
        raise
    except Exception as error:
        if not isinstance(error, _DAMAGED) and not type(error).__module__.startswith(_READERS):
            raise
        code = "records.hub" if found.kind == "hub" else "records.unreadable"
        remedy = _HUB_REMEDY if found.kind == "hub" else "Copy or write it again."
        reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
        raise RecordError(f"cannot be read ({reason})", remedy=remedy, file=found.name, code=code) from error
