"""Settings of a data source: where it is, and how its records are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_lit.data.conversations.slots import Placeholders
from vlm_lit.data.records.image_tables import ImageTableSettings
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.schema import Record
from vlm_lit.settings import as_settings


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Where conversations are read from.

    Args:
        path: a .json, .jsonl, .csv, .tsv (each also .gz), .parquet, .arrow or WebDataset .tar file, a pattern or folder
            of them, a folder with metadata.jsonl or metadata.csv, a folder saved by `datasets`, a hub id, or a list of
            any of these, which follow one another.
        split: split of a data set, slices such as train[:10%] included; a single file is one split, train.
        name: configuration of a hub data set, or a list of several, which follow one another.
        columns: our field names to the source's, for example {question: query, answers: label}; a field within a column
            is written with a dot, for example {structural: types.structural}.
        lists: fields whose text is read as a list of texts where it begins as one, for example "['red', 'blue']".
        weights: for each entry of path its share of a training epoch, in any unit; null visits each record once.
        records: key of a JSON file's one object that holds the records; null to find it.
        annotations: file with the answers to the questions in path, as VQA publishes them, joined by question_id.
        image_name: how the image of a record without one is called, for example COCO_train2014_{image_id:012d}.jpg.
        images_from: another source that holds the records' images, under a key that the records name.
        image_root: folder that relative image paths start from; null takes the file's own folder.
        group_fields: further fields of a record to break scores down by.
        prompt_without_choices: template for records without choices, where some have them; null for the same template.
        ignore_keys: keys that are left out of records and of their turns as if they were not there.
        placeholders: slots puts images where users' words say <image>, or what other programs write for it; text reads
            all of that as words.
        limit: use only the first so many records.
        revision: commit of a hub data set.
        streaming: read a hub data set without downloading it whole; needs trainer.max_steps.
    """

    path: list[str] | str
    split: str = "train"
    name: str | list[str] | None = None
    columns: dict[str, str] | None = None
    lists: list[str] | None = None
    weights: list[float] | None = None
    records: str | None = None
    annotations: str | None = None
    image_name: str | None = None
    images_from: ImageTableSettings | None = None
    image_root: str | None = None
    group_fields: list[str] | None = None
    prompt_without_choices: str | None = None
    ignore_keys: list[str] | None = None
    placeholders: Placeholders = "slots"
    limit: int | None = None
    revision: str | None = None
    streaming: bool = False


def as_source(given: object, name: str) -> SourceSettings | None:
    """A source as it is given in Python: settings, a mapping of them, or a path alone."""
    if isinstance(given, (str, Path)):
        return SourceSettings(path=str(given))
    return as_settings(SourceSettings, given, name) if given is not None else None


def name_of(source: SourceSettings) -> str:
    """How messages call a source."""
    return source.path if isinstance(source.path, str) else ", ".join(source.path)


def read_source(source: SourceSettings) -> Sequence[Record]:
    """The source's records by index; see `read_records`."""
    return read_records(source.path, **_options(source))


def stream_source(source: SourceSettings) -> Iterator[Record]:
    """The source's records one after the other, each read when it is used; see `stream_records`."""
    return stream_records(source.path, **_options(source), later=True)


def _options(source: SourceSettings) -> dict[str, Any]:
    return {
        "split": source.split,
        "name": source.name,
        "columns": source.columns,
        "image_root": Path(source.image_root) if source.image_root else None,
        "limit": source.limit,
        "revision": source.revision,
        "key": source.records,
    }
