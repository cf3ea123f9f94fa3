"""Records of a file of answers, their fields asked for by kind, each error with file and record."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.strict_json import iter_json_lines, iter_json_list, read_json
from vlm_lit.metrics.rules import Answer

_LINES: Final = (".jsonl", ".ndjson")
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

    def __init__(self, path: Path, index: int, fields: Mapping[str, object], *, id_key: str = "id") -> None:
        self.path, self.fields = path, fields
        self.place = str(index)
        self.id = self._id(id_key)
        self.place = f"{index} ({id_key} {self.id})"

    def refuse(self, problem: str, remedy: str) -> NoReturn:
        """Raise what is wrong with this record."""
        raise RecordError(problem, remedy=remedy, file=self.path, record=self.place, code="record.field")

    def text(self, name: str) -> str:
        """A field that has to be text."""
        return cast(str, self._checked(name, lambda value: isinstance(value, str), "text"))

    def texts(self, name: str, *, optional: bool = False) -> tuple[str, ...]:
        """A field that has to be a list of texts."""
        if optional and self.fields.get(name) is None:
            return ()
        values = cast(list[str], self._checked(name, _is_texts, "a list of texts"))
        return tuple(map(sys.intern, values))  # answers repeat, and one copy of `yes` serves a data set

    def groups(self) -> Mapping[str, str]:
        """The breakdowns, if there are any."""
        if self.fields.get("groups") is None:
            return {}
        return cast(Mapping[str, str], self._checked("groups", _is_text_by_text, "a mapping of names to texts"))

    def filed(self, answer: Answer) -> FiledAnswer:
        """This record's answer, with its image and its place."""
        return FiledAnswer(answer, self._image_id(), self.path, self.place)

    def _image_id(self) -> str | None:
        """The image's id, or else its path, or None."""
        value = next((v for v in map(self.fields.get, ("image_id", "image")) if v is not None), None)
        if value is not None and not _is_id(value):
            self.refuse(f"image_id is {shown(value)}", "Write a text or a whole number.")
        return None if value is None else str(value)

    def _id(self, key: str) -> str:
        if key not in self.fields:
            there = ", ".join(self.fields) or "nothing"
            self.refuse(f"it has no {key}; there is {there}", "Give every record its id.")
        value = self.fields[key]
        if not _is_id(value):
            self.refuse(f"{key} is {shown(value)}", "Write a text or a whole number.")
        return str(value)

    def _checked(self, name: str, fits: Callable[[object], bool], wanted: str) -> object:
        if name not in self.fields:
            there = ", ".join(self.fields)
            self.refuse(f"it has no {name}; there is {there}", f"Give it {name}, which is {wanted}.")
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


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and _is_texts(list(value.values()))


def shown(value: object) -> str:
    """A value as JSON writes it, cut short."""
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 60 else written[:56] + " ..."


def again(first: dict[str, object], rest: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    """What was looked at, and the rest."""
    yield first
    yield from rest


def rows(path: Path) -> Iterator[dict[str, object]]:
    """The objects of a `.jsonl`, or of a list in `.json`; one at least.

    Raises:
        RecordError: the file is broken or empty.
        ConfigError: there is no such file.
    """
    _must_exist(path)
    found = iter_json_lines(path) if path.suffix in _LINES else iter_json_list(path)
    first = next(found, None)
    if first is None:
        raise RecordError("the list is empty", remedy="Write at least one record.", file=path, code="json.empty")
    return again(first, found)


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Correct the path.")


def loaded(path: Path) -> object:
    """A whole JSON file; of VQA's `{"answer", "answer_confidence", ...}` the answers alone.

    Raises:
        RecordError: the file is no strict JSON.
        ConfigError: there is no such file.
    """
    _must_exist(path)
    return read_json(path, of_object=_small)


def _small(fields: dict[str, object]) -> object:
    """An object, or the text alone of one of a question's ten answers: there are two million of them."""
    if "answer" in fields and fields.keys() <= _OF_AN_ANSWER:
        answer = fields["answer"]
        return sys.intern(answer) if isinstance(answer, str) else answer
    return fields
