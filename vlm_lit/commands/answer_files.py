"""What does a file of answers hold? Our own records, VQA's two files and lmms-eval's samples, in one form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from vlm_lit.data.json_strict import iter_json_lines, iter_json_list
from vlm_lit.metrics.rules import Answer
from vlm_lit.schema import ConfigError, RecordError

_LINES: Final = (".jsonl", ".ndjson")
_VQA_GROUPS: Final[tuple[str, ...]] = ("answer_type", "question_type")
_OF_AN_ANSWER: Final = {"answer", "answer_confidence", "answer_id"}


@dataclass(frozen=True, slots=True)
class FiledAnswer:
    """An answer, the image it is about, and where it stands: what an error message calls the record."""

    answer: Answer
    image_id: str | None
    file: Path
    record: str


def read_records(path: Path) -> list[FiledAnswer]:
    """Reads one record an answer, from `.jsonl` or a list in `.json`; a run's `predictions.jsonl` is such a file.

    A record has `id`, `prediction` and `references`, and may have `image_id` (or `image`), `choices` and `groups`.
    lmms-eval's sample files are told by their `doc_id`; each of their records has its `target` as only reference.

    Raises:
        RecordError: a record is broken or repeats an id; names file, record and remedy.
    """
    rows = _rows(path)
    first = next(rows)
    of_lmms_eval = "doc_id" in first and "id" not in first
    read, id_key = (_sample, "doc_id") if of_lmms_eval else (_record, "id")
    numbered = enumerate(_again(first, rows))
    return list(_with_unique_ids(read(_Row(path, index, row, id_key=id_key)) for index, row in numbered))


def read_vqa(predictions: Path, annotations: Path, questions: Path | None = None) -> list[FiledAnswer]:
    """Reads a VQA result file and the annotations it answers, in the order of the annotations.

    Groups are `answer_type` and `question_type`.

    Raises:
        RecordError: a file is broken, repeats an id, or the files are not about the same questions.
    """
    found: dict[str, str] = {}
    for index, entry in enumerate(_rows(predictions)):
        row = _Row(predictions, index, entry, id_key="question_id")
        if row.id in found:
            row.refuse(f"the question_id {row.id} stands there twice", "Keep one answer a question.")
        found[row.id] = row.text("answer")
    filed = list(_with_unique_ids(_annotated(annotations, found)))
    asked = {item.answer.id for item in filed}
    _same_ids(predictions, set(found), annotations, asked)
    if questions is not None:
        rows = _members(questions, "questions")
        ids = {_Row(questions, index, row, id_key="question_id").id for index, row in enumerate(rows)}
        _same_ids(questions, ids, annotations, asked)
    return filed


def _annotated(path: Path, found: Mapping[str, str]) -> Iterator[FiledAnswer]:
    for index, entry in enumerate(_members(path, "annotations")):
        row = _Row(path, index, entry, id_key="question_id")
        groups = {name: row.text(name) for name in _VQA_GROUPS if name in entry}
        # One that is missing is named with all the others, once they are known.
        answer = Answer(found.get(row.id, ""), row.texts("answers"), row.id, groups=groups)
        yield row.filed(answer)


def _same_ids(path: Path, ids: set[str], other: Path, wanted: set[str]) -> None:
    missing, extra = sorted(wanted - ids), sorted(ids - wanted)
    if missing:
        problem = f"{len(missing):,} of the {len(wanted):,} questions in {other} are missing, such as {missing[0]}"
        raise RecordError(
            problem, remedy='Answer every question; "" is an answer.', file=path, record=missing[0], code="ids.missing"
        )
    if extra:
        problem = f"{len(extra):,} question ids do not stand in {other}, such as {extra[0]}"
        remedy = "Take them out, or give the annotations of the same split."
        raise RecordError(problem, remedy=remedy, file=path, record=extra[0], code="ids.extra")


def _with_unique_ids(read: Iterable[FiledAnswer]) -> Iterator[FiledAnswer]:
    seen: set[str] = set()
    for item in read:
        if item.answer.id in seen:
            remedy = "Give every record an id of its own, or take the repeat out."
            problem = f"the id {item.answer.id} stands there twice"
            raise RecordError(problem, remedy=remedy, file=item.file, record=item.record, code="ids.repeated")
        seen.add(item.answer.id)
        yield item


class _Row:
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
            self.refuse(f"image_id is {_shown(value)}", "Write a text or a whole number.")
        return None if value is None else str(value)

    def _id(self, key: str) -> str:
        if key not in self.fields:
            there = ", ".join(self.fields) or "nothing"
            self.refuse(f"it has no {key}; there is {there}", "Give every record its id.")
        value = self.fields[key]
        if not _is_id(value):
            self.refuse(f"{key} is {_shown(value)}", "Write a text or a whole number.")
        return str(value)

    def _checked(self, name: str, fits: Callable[[object], bool], wanted: str) -> object:
        if name not in self.fields:
            there = ", ".join(self.fields)
            self.refuse(f"it has no {name}; there is {there}", f"Give it {name}, which is {wanted}.")
        value = self.fields[name]
        if not fits(value):
            self.refuse(f"{name} is {_shown(value)}", f"It must be {wanted}.")
        return value


def _record(row: _Row) -> FiledAnswer:
    answer = Answer(
        row.text("prediction"), row.texts("references"), row.id, row.texts("choices", optional=True), row.groups()
    )
    return row.filed(answer)


def _sample(row: _Row) -> FiledAnswer:
    """A line of lmms-eval's `..._samples_<task>.jsonl`."""
    key = "filtered_resps" if "filtered_resps" in row.fields else "resps"
    reply = row.fields.get(key)
    while isinstance(reply, list) and len(reply) == 1:  # one request, one reply: [["red"]]
        (reply,) = reply
    if not isinstance(reply, str):
        row.refuse(f"{key} is {_shown(row.fields.get(key))}", "It must hold one reply.")
    target = row.fields.get("target")
    references = row.texts("target") if isinstance(target, list) else (row.text("target"),)
    return row.filed(Answer(reply, references, row.id, row.texts("choices", optional=True)))


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and _is_texts(list(value.values()))


def _shown(value: object) -> str:
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 60 else written[:56] + " ..."


def _again(first: dict[str, object], rest: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    yield first
    yield from rest


def _rows(path: Path) -> Iterator[dict[str, object]]:
    _must_exist(path)
    rows = iter_json_lines(path) if path.suffix in _LINES else iter_json_list(path)
    first = next(rows, None)
    if first is None:
        raise RecordError("the list is empty", remedy="Write at least one record.", file=path, code="json.empty")
    return _again(first, rows)


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Correct the path.")


def _members(path: Path, key: str) -> list[dict[str, object]]:
    """The list of objects under `key` of a file that holds one object, as VQA's annotations and questions are."""
    _must_exist(path)
    whole = _loaded(path)
    members = whole.get(key) if isinstance(whole, dict) else None
    if not (isinstance(members, list) and members and all(isinstance(member, dict) for member in members)):
        remedy = "Give the file as it was published."
        raise RecordError(f"it has no list of objects named {key}", remedy=remedy, file=path, code="json.not_a_list")
    return members


def _loaded(path: Path) -> object:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_small, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        problem, remedy = f"byte {error.start} is not UTF-8", "Save the file as UTF-8."
    except RecursionError:
        problem, remedy = "it is nested too deep", "Give the file as it was published."
    except json.JSONDecodeError as error:
        problem = f"not JSON in line {error.lineno}, column {error.colno}: {error.msg}"
        remedy = "The file may have been cut short: copy it again."
    except _NotStrictError as error:
        problem, remedy = str(error), "Correct it, or copy the file again."
    raise RecordError(problem, remedy=remedy, file=path, code="json.syntax")


class _NotStrictError(Exception):
    pass


def _small(pairs: list[tuple[str, object]]) -> object:
    """An object, or the text alone of one of a question's ten answers: there are two million of them."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _NotStrictError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object")
    if "answer" in fields and fields.keys() <= _OF_AN_ANSWER:
        answer = fields["answer"]
        return sys.intern(answer) if isinstance(answer, str) else answer
    return fields


def _no_constant(word: str) -> NoReturn:
    raise _NotStrictError(f"{word} is not JSON")
