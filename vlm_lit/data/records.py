"""Where do the records of a data set come from?

A `.json` or `.jsonl` file, a folder written by `datasets`, Arrow or Parquet files, or a data set of the hub. All
of them give `Record`s: by index (`read_records`) or one after the other (`stream_records`). Image columns stay
encoded as `{"bytes", "path"}`; no pixel is decoded here. Class labels are given by name. No code that comes with
a data set is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

from vlm_lit.data.class_labels import LabelNames, UnknownClass, label_names, named
from vlm_lit.data.json_strict import iter_json_lines, iter_json_list
from vlm_lit.data.locate import Source, locate
from vlm_lit.data.splits import no_such_split, rows_of, wrong_split
from vlm_lit.schema import ConfigError, Record, RecordError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_READERS: Final = ("datasets.", "pyarrow.", "huggingface_hub.")
_HUB_REMEDY: Final = "No local file has this name; as a hub id, check it, the split, the network and your login."
_STREAM_ROWS: Final = 16


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """What turns a row into a record."""

    file: Path | str
    image_root: Path | None
    columns: Mapping[str, str]
    labels: Mapping[str, LabelNames] = field(default_factory=dict)

    def record(self, index: int, row: Mapping[str, object]) -> Record:
        fields = self._fields(index, self._with_names(index, row))
        return Record(file=self.file, index=index, fields=fields, image_root=self.image_root)

    def _with_names(self, index: int, row: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return {**row, **{column: named(row[column], names) for column, names in self.labels.items()}}
        except UnknownClass as found:
            remedy = "Write the data set again with all of its class names."
            raise RecordError(
                str(found), remedy=remedy, file=self.file, record=str(index), code="records.class_label"
            ) from None

    def _fields(self, index: int, row: Mapping[str, object]) -> Mapping[str, object]:
        if not self.columns:
            return row
        renamed = {ours: self._value(index, row, ours, theirs) for ours, theirs in self.columns.items()}
        taken = set(self.columns.values())
        return {key: value for key, value in row.items() if key not in taken} | renamed

    def _value(self, index: int, row: Mapping[str, object], ours: str, theirs: str) -> object:
        """A column, or a field within one: `types.structural`. What an absent value holds is absent too."""
        value: object = row
        for key in [theirs] if theirs in row else theirs.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping) or key not in value:
                raise RecordError(
                    f"no column {theirs!r} to use as {ours!r}; there are {', '.join(map(repr, row))}",
                    remedy="Correct the setting `columns` (our name: theirs).",
                    file=self.file,
                    record=str(index),
                    code="records.missing_column",
                )
            value = value[key]
        return value


class ArrowRecords(Sequence[Record]):
    """Records of an Arrow table that stay on disk until asked for; only the row asked for is read."""

    def __init__(self, table: Dataset, rows: range, naming: _Naming) -> None:
        self._table, self._rows = table.with_format("arrow"), rows
        self._naming = replace(naming, labels=label_names(table.features))

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

    def column(self, name: str) -> list[object]:
        """One column of every record, under the name the table has for it, without reading the others.

        Raises:
            RecordError: there is no such column.
        """
        if name not in self._table.column_names:
            there = ", ".join(map(repr, self._table.column_names))
            raise RecordError(
                f"no column {name!r}; there are {there}",
                remedy="Correct its name in the settings.",
                file=self._naming.file,
                code="records.missing_column",
            )
        values: list[object] = self._table.select_columns([name])[:][name].to_pylist()
        return [values[row] for row in self._rows]


def read_records(
    source: str | Path,
    *,
    split: str = "train",
    name: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
) -> Sequence[Record]:
    """Open a data set for access by index: a list for JSON, `ArrowRecords` for everything else.

    Args:
        source: a path, a pattern of paths, or a hub id `owner/name`.
        split: which split, or slice of one such as `train[:90%]`. A single file is one split, whatever its name.
        name: which configuration of a hub data set, or several, which follow one another.
        columns: our field names to theirs, for example `{"question": "query", "answers": "label"}`. A field within a
            column is written with a dot: `types.structural`.
        image_root: the folder relative image paths start from; the source's own folder by default.
        limit: use only this many records, the first ones.
        revision: which commit, tag or branch of a hub data set.

    Raises:
        RecordError: nothing there, an unknown format, a damaged file, a column that is missing.
        ConfigError: `limit` is not positive.
    """
    found, naming = _opened(source, columns, image_root, limit, split)
    with _unreadable(found):
        if found.kind in ("json", "jsonl"):
            records = list(islice(_json_records(found, naming), limit if found.split.is_whole else None))
            rows = rows_of(found.split, len(records), found.name)
            return records[rows.start : rows.stop][:limit]
        table = _open_table(found, name, revision)
        return ArrowRecords(table, rows_of(found.split, len(table), found.name)[:limit], naming)


def stream_records(
    source: str | Path,
    *,
    split: str = "train",
    name: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    limit: int | None = None,
    revision: str | None = None,
) -> Iterator[Record]:
    """Go through a data set once without holding it: JSON line by line, Parquet and the hub as they arrive.

    Arguments and errors are `read_records`'s; an error in a later record is raised when it is reached. A `.json`
    list has to be read whole as text, but its records are still made one at a time. A slice is refused: where it
    ends follows from a length that a stream does not know.
    """
    found, naming = _opened(source, columns, image_root, limit, split)
    if not found.split.is_whole:
        remedy = "Set streaming to false, or take the first records by limit."
        raise wrong_split(found.name, f"a stream cannot be cut to {str(found.split)!r}", remedy)
    return islice(_streamed(found, naming, name, revision), limit)


def _streamed(
    found: Source, naming: _Naming, name: str | Sequence[str] | None, revision: str | None
) -> Iterator[Record]:
    with _unreadable(found):
        if found.kind in ("json", "jsonl"):
            yield from _json_records(found, naming)
        elif found.kind in ("saved", "arrow"):  # memory-mapped: reading in order is streaming already
            table = _open_table(found, name, revision)
            yield from ArrowRecords(table, range(len(table)), naming)
        else:
            stream = _open_stream(found, name, revision)
            naming = replace(naming, labels=label_names(stream.features))
            tables = stream.with_format("arrow").iter(batch_size=_STREAM_ROWS)
            # Plain iteration would give each loader worker some of the shards only; who gets which is not its affair.
            for index, row in enumerate(row for table in tables for row in table.to_pylist()):
                yield naming.record(index, row)


def _json_records(found: Source, naming: _Naming) -> Iterator[Record]:
    (path,) = found.files
    rows = iter_json_list(path) if found.kind == "json" else iter_json_lines(path)
    index = -1
    for index, row in enumerate(rows):
        yield naming.record(index, row)
    if index < 0:
        raise RecordError("no records", remedy="Write at least one.", file=path, code="records.none")


def _open_table(found: Source, name: str | Sequence[str] | None, revision: str | None) -> Dataset:
    import datasets

    if found.kind == "arrow":
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in found.files])
    if found.kind == "parquet":
        return datasets.load_dataset("parquet", data_files=[str(file) for file in found.files], split="train")
    if found.kind == "hub":
        return _of_hub(found, name, revision)
    saved = datasets.load_from_disk(found.name)
    if isinstance(saved, datasets.DatasetDict):
        if found.split.name not in saved:
            raise no_such_split(found.name, found.split.name, saved)
        return saved[found.split.name]
    return saved


def _open_stream(found: Source, name: str | Sequence[str] | None, revision: str | None) -> IterableDataset:
    import datasets

    if found.kind == "parquet":
        files = [str(file) for file in found.files]
        return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return _of_hub(found, name, revision, streaming=True)


def _of_hub(found: Source, name: str | Sequence[str] | None, revision: str | None, **more: bool) -> Any:  # noqa: ANN401
    """A split of one configuration, or of several, one after the other; a table, or a stream if that is asked for."""
    import datasets

    names = [name] if name is None or isinstance(name, str) else list(name)
    if not names:
        raise ConfigError(f"name is an empty list; write a configuration of {found.name}, or null for its only one.")
    split = found.split.name
    parts = [datasets.load_dataset(found.name, one, split=split, revision=revision, **more) for one in names]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _opened(
    source: str | Path, columns: Mapping[str, str] | None, image_root: Path | None, limit: int | None, split: str
) -> tuple[Source, _Naming]:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; write a number of records from 1 up, or null for all.")
    found = locate(source, split)
    root = image_root if image_root is not None else _default_image_root(found)
    file = found.files[0] if len(found.files) == 1 else found.name
    return found, _Naming(file=file, image_root=root, columns=columns or {})


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
        if not isinstance(error, OSError | ValueError) and not type(error).__module__.startswith(_READERS):
            raise
        code = "records.hub" if found.kind == "hub" else "records.unreadable"
        remedy = _HUB_REMEDY if found.kind == "hub" else "Copy or write it again."
        reason = str(error.__cause__ or error).split("\n")[0]
        raise RecordError(f"cannot be read ({reason})", remedy=remedy, file=found.name, code=code) from error
