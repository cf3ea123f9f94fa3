"""Images kept in another table, found by a key that the record names.

GQA keeps 398 images in one table and 12,578 questions about them in another. Of the images' table the keys alone are
held; an image is read, not decoded, when its record is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from vlm_lit.data.records.record_sequences import ArrowRecords
from vlm_lit.data.records.records import read_records
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record


@dataclass(frozen=True, kw_only=True)
class ImageTableSettings:
    """Another source that holds the images; it is opened whole, even if the records are streamed.

    Args:
        path: as for the records.
        image_key: the field of a record that names its image, after the setting `columns`.
        split: split of a data set.
        name: configuration of a hub data set.
        revision: commit of a hub data set.
        key: the images' column that the records' field is looked up in.
        column: the images' column that holds them.
    """

    path: str
    image_key: str
    split: str = "train"
    name: str | list[str] | None = None
    revision: str | None = None
    key: str = "id"
    column: str = "image"


class ImageTable:
    """Images by key.

    Args:
        settings: which table, and how to look up in it.

    Raises:
        RecordError: the table cannot be read, lacks a column, or has a key twice or one that is no name.
    """

    def __init__(self, settings: ImageTableSettings) -> None:
        self.settings = settings
        self.records = read_records(settings.path, split=settings.split, name=settings.name, revision=settings.revision)
        self._rows = self._by_key(_column(self.records, settings.key))

    def with_image(self, record: Record) -> Record:
        """The record with its image; a path in the table starts from the table's folder.

        Raises:
            RecordError: the record has images of its own, names none, or one that is not in the table.
        """
        self._check(record)
        key = record.fields[self.settings.image_key]
        if not _is_key(key) or (row := self._rows.get(str(key))) is None:
            self._refuse(record, f"{self.settings.image_key} is {key!r}, which is no {self.settings.key} in", "missing")
        found = self.records[row]
        image = found.fields.get(self.settings.column)
        if image is None:
            self._refuse(record, f"its image {key!r} has no {self.settings.column!r} in", "empty")
        return replace(record, fields={**record.fields, "image": image}, image_root=found.image_root)

    def _by_key(self, keys: Sequence[object]) -> dict[str, int]:
        rows: dict[str, int] = {}
        for row, key in enumerate(keys):
            if not _is_key(key):
                self._refuse_key(row, f"{self.settings.key} is {key!r}, which is no text or whole number")
            if rows.setdefault(str(key), row) != row:
                self._refuse_key(row, f"the {self.settings.key} {key!r} is also that of record {rows[str(key)]}")
        return rows

    def _check(self, record: Record) -> None:
        own = [name for name in ("image", "images") if record.fields.get(name) is not None]
        if own:
            remedy = "Leave images_from out, or rename the field by the setting `columns`."
            raise _refusal(record, f"it has {own[0]} although images_from names a table", remedy, "ambiguous")
        if self.settings.image_key not in record.fields:
            there = ", ".join(map(repr, record.fields))
            remedy = "Correct images_from.image_key."
            raise _refusal(record, f"no field {self.settings.image_key!r}; there are {there}", remedy, "no_key")

    def _refuse(self, record: Record, problem: str, code: str) -> NoReturn:
        remedy = "Give the images of the same split, or correct images_from.key and images_from.image_key."
        raise _refusal(record, f"{problem} {self.settings.path}", remedy, code)

    def _refuse_key(self, row: int, problem: str) -> NoReturn:
        remedy = "Give every image a key of its own, or correct images_from.key."
        raise _refusal(self.records[row], problem, remedy, "key")


def _column(images: Sequence[Record], name: str) -> Sequence[object]:
    """A column without the images beside it, which for a table would mean reading all of them."""
    return images.column(name) if isinstance(images, ArrowRecords) else [image.fields.get(name) for image in images]


def _is_key(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _refusal(record: Record, problem: str, remedy: str, code: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=record.file, record=record.name, code=f"image_table.{code}")
