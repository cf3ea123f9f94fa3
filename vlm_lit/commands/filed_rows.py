"""Records of a file of answers, their fields asked for by kind, each error with file and record."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from vlm_lit.commands.sheets import iter_sheet
from vlm_lit.data.records.text_tables import iter_table
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.json_text import OfObject
from vlm_lit.files.list_text import begins_as_list, written_list
from vlm_lit.files.open_text import begins_with, format_of, open_bytes
from vlm_lit.files.strict_json import iter_json_lines, iter_json_list, read_json
from vlm_lit.metrics.rules import Answer
from vlm_lit.vqa.counted_answers import ONCE_EACH, UncountableAnswerError, answer_of, counted_answers, is_counted

_LINES: Final = (".jsonl", ".ndjson")
_TABLES: Final = (".csv", ".tsv")
_SHEET: Final = ".xlsx"
_LONGEST_LINE: Final = 1 << 20
_LONGEST_NAME: Final = 1024
"""Letters of an image's name; what is longer is the picture itself, in base64."""

_OF_AN_ANSWER: Final = {"answer", "answer_confidence", "answer_id"}


@dataclass(frozen=True, slots=True)
class FiledAnswer:
    """An answer, the image it is about, and where it stands: what an error message calls the record."""

    answer: Answer
    image_id: str | None
    file: Path
    record: str


class FiledRow:
    """One record whose fields are asked for by name and kind; what is wrong is said with file and record."""

    def __init__(self, path: Path, index: int, fields: Mapping[str, object], *, id_key: str | None = "id") -> None:
        self.path, self.fields = path, fields
        self.id = self.place = str(index)  # where the file has no ids
        if id_key is not None:
            self.id = self._id(id_key)
            self.place = f"{index} ({id_key} {self.id})"

    def refuse(self, problem: str, remedy: str) -> NoReturn:
        """Raise what is wrong with this record."""
        raise RecordError(problem, remedy=remedy, file=self.path, record=self.place, code="record.field")

    def text(self, name: str, *, column: str | None = None) -> str:
        """A field that has to be text; a number is its digits. `column` is what `--columns` calls it."""
        value = self._checked(name, _is_text, "text", column)
        return value if isinstance(value, str) else str(value)

    def texts(
        self, name: str, *, optional: bool = False, column: str | None = None, written: bool = False
    ) -> tuple[str, ...]:
        """A field that has to be a list of texts; one text is a list of one.

        An object with an `answer` is that answer, as often as it says. In a table, and where `written` says so, a text
        may hold the list as Python spells it.
        """
        if optional and self.fields.get(name) is None:
            return ()
        if (written or is_table(self.path)) and (listed := self._written_list(name, column)):
            return tuple(listed)
        value = self._checked(name, _is_texts, "a list of texts", column)
        try:
            entries = counted_answers(value) if isinstance(value, list) else [value]
        except UncountableAnswerError as error:
            self.refuse(f"{name}: {error}", ONCE_EACH)
        return tuple(sys.intern(str(text)) for text in entries)  # answers repeat: one copy of `yes` serves a data set

    def _written_list(self, name: str, column: str | None) -> list[str] | None:
        value = self.fields.get(name)
        found = written_list(value)
        if found is None and begins_as_list(value):
            self.refuse(
                f"{name} begins as a list and is not one of texts: {shown(value)}",
                f"Write it as ['red', 'blue']; a text that is no list stands in JSON lines, under {column or name}.",
            )
        return found

    def first_given(self, names: Sequence[str]) -> str:
        """The first of these keys that holds something; else the first that is there, or the first of all."""
        there = [name for name in names if name in self.fields]
        return next((name for name in there if self.fields[name] is not None), (there or names)[0])

    def groups(self) -> Mapping[str, str]:
        """The breakdowns, if there are any."""
        if self.fields.get("groups") is None:
            return {}
        return cast(Mapping[str, str], self._checked("groups", _is_text_by_text, "a mapping of names to texts"))

    def filed(self, answer: Answer, image_key: str | None = None) -> FiledAnswer:
        """This record's answer, with its image and its place; `image_key` names the image where `image_id` does not."""
        return FiledAnswer(answer, self._image_id(image_key), self.path, self.place)

    def _image_id(self, key: str | None) -> str | None:
        """The image's id, or else its path, or None; a picture that stands in the record has no name."""
        keys = (key,) if key is not None else ("image_id", "image")
        value = next((v for v in map(self.fields.get, keys) if v is not None), None)
        if isinstance(value, str) and len(value) > _LONGEST_NAME:
            return None
        if value is not None and not _is_id(value):
            self.refuse(f"{key or 'image_id'} is {shown(value)}", "Write a text or a whole number.")
        return None if value is None else str(value)

    def _id(self, key: str) -> str:
        if key not in self.fields:
            there = ", ".join(self.fields) or "nothing"
            self.refuse(f"it has no {key}; there is {there}", "Give every record its id.")
        value = self.fields[key]
        if not _is_id(value):
            self.refuse(f"{key} is {shown(value)}", "Write a text or a whole number.")
        return str(value)

    def _checked(self, name: str, fits: Callable[[object], bool], wanted: str, column: str | None = None) -> object:
        if name not in self.fields:
            there = ", ".join(self.fields)
            named = f", or say which one it is: --columns {column}=NAME" if column is not None else ""
            self.refuse(f"it has no {name}; there is {there}", f"Give it {name}, which is {wanted}{named}.")
        value = self.fields[name]
        if not fits(value):
            self.refuse(f"{name} is {shown(value)}", f"It must be {wanted}.")
        return value


def with_unique_ids(read: Iterable[FiledAnswer]) -> Iterator[FiledAnswer]:
    """The answers, as long as none repeats an id.

    Raises:
        RecordError: one does; names it.
    """
    seen: set[str] = set()
    for item in read:
        if item.answer.id in seen:
            remedy = "Give every record an id of its own, or take the repeat out."
            problem = f"the id {item.answer.id} stands there twice"
            raise RecordError(problem, remedy=remedy, file=item.file, record=item.record, code="ids.repeated")
        seen.add(item.answer.id)
        yield item


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(_is_text(answer_of(entry)) for entry in value))


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def shown(value: object) -> str:
    """A value as JSON writes it, cut short."""
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 60 else written[:56] + " ..."


def again(first: dict[str, object], rest: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    """What was looked at, and the rest."""
    yield first
    yield from rest


def rows(path: Path) -> Iterator[dict[str, object]]:
    """The records of a file: JSON lines, a list in `.json`, or a table in `.csv`, `.tsv` or `.xlsx`; one at least.

    Raises:
        RecordError: the file is broken or empty.
        ConfigError: there is no such file, or what reads it is not installed.
    """
    _must_exist(path)
    found = _reader(path)(path)
    first = next(found, None)
    if first is None:
        problem, remedy = ("the table has no rows", "Write") if is_table(path) else ("the list is empty", "Write")
        raise RecordError(problem, remedy=f"{remedy} at least one record.", file=path, code="json.empty")
    return again(first, found)


def is_table(path: Path) -> bool:
    """Whether a file holds cells, which are text, and where an empty one is nothing."""
    return format_of(path) in (*_TABLES, _SHEET)


def has_lines(path: Path) -> bool:
    """Whether a file holds JSON lines, as POPE's `.json` files do too: its first line is an object, and more follow."""
    if format_of(path) in _LINES:
        return True
    if not path.is_file() or not begins_with(path, b"{"):
        return False
    with open_bytes(path) as file:
        first, second = file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE)
    return first.rstrip().endswith(b"}") and second.lstrip().startswith(b"{")


def _reader(path: Path) -> Callable[[Path], Iterator[dict[str, object]]]:
    ending = format_of(path)
    if ending == _SHEET:
        return iter_sheet
    if ending in _TABLES:
        return iter_table
    lines = ending in _LINES or begins_with(path, b"{")  # JSON lines in a `.json`
    return iter_json_lines if lines else iter_json_list


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Correct the path.")


def loaded(path: Path, of_object: OfObject | None = None) -> object:
    """A whole JSON file; of VQA's `{"answer", "answer_confidence", ...}` the answers alone.

    Args:
        path: the file.
        of_object: makes something else of each object than that.

    Raises:
        RecordError: the file is no strict JSON.
        ConfigError: there is no such file.
    """
    _must_exist(path)
    return read_json(path, of_object=of_object or _small)


def _small(fields: dict[str, object]) -> object:
    """An object, or the text alone of one of a question's ten answers: there are two million of them."""
    known = "answer" in fields and fields.keys() <= _OF_AN_ANSWER
    if known or ("answer" in fields and "answer_confidence" in fields and not is_counted(fields)):
        answer = fields["answer"]
        return sys.intern(answer) if isinstance(answer, str) else answer
    return fields
