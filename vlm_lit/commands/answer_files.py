"""Files of answers and references, read into one form: our own records and those that other programs write.

Each program's file is told by the keys of its first record; `--columns` says otherwise. Known are a run's
`predictions.jsonl`, lmms-eval's samples, LLaMA-Factory's `generated_predictions.jsonl`, ms-swift's results,
VLMEvalKit's tables and LLaVA's answers; the last have no references and are read beside annotations.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_columns import AnswerColumns
from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, again, is_table, rows, shown, with_unique_ids
from vlm_lit.data.conversations.choices import lettered
from vlm_lit.errors import RecordError
from vlm_lit.metrics.rules import Answer

_INDEX: Final = "index"
_NO_COLUMNS: Final = AnswerColumns()


@dataclass(frozen=True, kw_only=True)
class AnswerForm:
    """How a program writes its answers: the keys it is told by, and what it calls ours.

    `references` are the keys that may hold them, the first that a record has; a file of answers alone has none.
    `written_list` is the key that holds a list as Python spells it. A record without the key `id` is named by its
    number.
    """

    name: str
    told_by: frozenset[str]
    id: str = "id"
    prediction: str = "prediction"
    references: tuple[str, ...] = ("references",)
    written_list: str | None = None


_REFERENCES: Final = ("references", "answers", "answer", "label", "labels", "target")
OURS: Final = AnswerForm(name="records", told_by=frozenset({"prediction"}), references=_REFERENCES)
FORMS: Final = (
    AnswerForm(name="a run's predictions", told_by=frozenset({"prediction", "references"}), references=_REFERENCES),
    AnswerForm(
        name="lmms-eval's samples",
        told_by=frozenset({"doc_id"}),
        id="doc_id",
        prediction="filtered_resps",
        references=("target",),
        written_list="target",
    ),
    AnswerForm(
        name="VLMEvalKit's table",
        told_by=frozenset({"index", "prediction"}),
        id="index",
        references=("answer",),
    ),
    AnswerForm(
        name="LLaMA-Factory's predictions",
        told_by=frozenset({"predict", "label"}),
        prediction="predict",
        references=("label",),
    ),
    AnswerForm(
        name="ms-swift's results",
        told_by=frozenset({"response", "messages"}),
        prediction="response",
        references=("labels",),
    ),
    AnswerForm(
        name="ms-swift's results",
        told_by=frozenset({"response", "labels"}),
        prediction="response",
        references=("labels",),
    ),
    OURS,
    AnswerForm(
        name="LLaVA's answers",
        told_by=frozenset({"question_id", "text"}),
        id="question_id",
        prediction="text",
        references=(),
    ),
    AnswerForm(
        name="a result file",
        told_by=frozenset({"question_id", "answer"}),
        id="question_id",
        prediction="answer",
        references=(),
    ),
)


def read_records(path: Path, columns: AnswerColumns = _NO_COLUMNS) -> list[FiledAnswer]:
    """Reads one record an answer, from JSON lines, a JSON list or a table; a run's `predictions.jsonl` is such a file.

    A record has `id`, `prediction` and `references`, and may have `image_id` (or `image`), `choices` and `groups`.
    Other programs' files are told by their keys: see `FORMS`.

    Args:
        path: the file.
        columns: which of its keys hold what, where they are not told by their names.

    Raises:
        RecordError: a record is broken or repeats an id, or the file has no references; names file, record and remedy.
    """
    found = rows(path)
    first = next(found)
    form = form_of(first)
    numbered = columns.id is None and _id_key(form, first) is None
    if not form.references and columns.references is None:
        raise _without_references(path, form)
    read = _AnswerReading(path, form, columns, numbered)
    return list(with_unique_ids(read(index, row) for index, row in enumerate(again(first, found))))


def form_of(first: Mapping[str, object]) -> AnswerForm:
    """The form that a file's first record is told by; our own where it is none."""
    return next((form for form in FORMS if first.keys() >= form.told_by), OURS)


def _id_key(form: AnswerForm, fields: Mapping[str, object]) -> str | None:
    """The key that names a record; `index` where no other is there and it holds something."""
    keys = (form.id, "question_id") if form.id == "id" else (form.id,)
    given = next((key for key in (*keys, _INDEX) if fields.get(key) is not None), None)
    return given or next((key for key in keys if key in fields), None)


def _without_references(path: Path, form: AnswerForm) -> RecordError:
    return RecordError(
        f"these are {form.name}, which hold no references",
        remedy="Give them by --predictions, and the annotations by --annotations; or name the key that holds the "
        "references: --columns references=NAME.",
        file=path,
        record="0",
        code="record.field",
    )


@dataclass(frozen=True)
class _AnswerReading:
    """Reads one record after the other in the form that the first was told by."""

    path: Path
    form: AnswerForm
    columns: AnswerColumns
    numbered: bool

    def __call__(self, index: int, fields: dict[str, object]) -> FiledAnswer:
        fields = self.columns.with_inner(fields)
        row = self._row(index, fields)
        prediction = self._prediction(row)
        references = self._references(row)
        answer = Answer(prediction, references, row.id, self._choices(row), self._groups(row))
        return row.filed(answer, self.columns.image_id)

    def _row(self, index: int, fields: Mapping[str, object]) -> FiledRow:
        """A record by its id, or by its number in a file without ids."""
        key = _id_key(self.form, fields)
        if not self.numbered:
            return FiledRow(self.path, index, fields, id_key=self.columns.id or key or self.form.id)
        row = FiledRow(self.path, index, fields, id_key=None)
        if key is not None and fields[key] is not None:
            row.refuse(
                f"it has {key}, and record 0 has none of its own",
                "Give every record its id, or none; or say which key names them: --columns id=NAME.",
            )
        return row

    def _prediction(self, row: FiledRow) -> str:
        key = self.columns.prediction or self.form.prediction
        if is_table(self.path) and row.fields.get(key, "") is None:
            return ""  # an empty cell, and an answer too
        return _one_reply(row) if key == "filtered_resps" else row.text(key, column="prediction")

    def _references(self, row: FiledRow) -> tuple[str, ...]:
        keys = (self.columns.references,) if self.columns.references else self.form.references
        key = row.first_given(keys)
        return row.texts(key, column="references", written=key == self.form.written_list)

    def _choices(self, row: FiledRow) -> tuple[str, ...]:
        key = self.columns.choices or "choices"
        value = row.fields.get(key)
        if value is not None or self.form.id != "index":
            return row.texts(key, optional=not self.columns.choices)
        there, lost = lettered(row.fields, lambda text: text is not None)
        if lost is not None:
            gap = string.ascii_uppercase[len(there)]
            row.refuse(f"it has no option {gap}, and one behind it", "Write the options without a gap.")
        return tuple(map(str, there))

    def _groups(self, row: FiledRow) -> Mapping[str, str]:
        if self.columns.groups:
            return {self.columns.groups: row.text(self.columns.groups)}
        if self.form.id != "index":
            return row.groups()
        names = ("category", "l2-category")
        return {name: str(row.fields[name]) for name in names if row.fields.get(name) is not None}


def _one_reply(row: FiledRow) -> str:
    """lmms-eval's reply: one request, one reply, `[["red"]]`; a filtered one that is the same is left out."""
    key = "filtered_resps" if "filtered_resps" in row.fields else "resps"
    reply = row.fields.get(key)
    while isinstance(reply, list) and len(reply) == 1:
        (reply,) = reply
    if not isinstance(reply, str):
        row.refuse(f"{key} is {shown(row.fields.get(key))}", "It must hold one reply.")
    return reply
