"""Conversion of a source's row to a record: columns under our names, class labels as words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlm_lit.data.records.class_labels import LabelNames, UnknownClass, named
from vlm_lit.data.records.later_fields import LaterFields
from vlm_lit.data.records.shards import UnclearPictures, shard_fields
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What turns a row into a record.

    `part` names the source among several; `shards` says that rows are samples of WebDataset files.
    """

    file: Path | str
    image_root: Path | None
    columns: Mapping[str, str]
    labels: Mapping[str, LabelNames] = field(default_factory=dict)
    part: str = ""
    shards: bool = False

    def record(self, index: int, row: Mapping[str, object]) -> Record:
        """The record that row `index` is."""
        row = self._sample(index, row) if self.shards else row
        fields = self._fields(index, self._with_names(index, row))
        return Record(file=self.file, index=index, fields=fields, image_root=self.image_root, part=self.part)

    def later(self, index: int, row: Callable[[], Mapping[str, object]]) -> Record:
        """The record of a row that is read when one of the record's fields is asked for."""
        fields = LaterFields(lambda: self.record(index, row()).fields)
        return Record(file=self.file, index=index, fields=fields, image_root=self.image_root, part=self.part)

    def _sample(self, index: int, row: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return shard_fields(row)
        except UnclearPictures as found:
            remedy = "Name the sample's own files there, or leave the names out to show all of them."
            name = f"{index} (id {row.get('__key__')!r})"
            raise RecordError(
                str(found), remedy=remedy, file=self.file, record=name, code="conversation.image_count"
            ) from None

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
