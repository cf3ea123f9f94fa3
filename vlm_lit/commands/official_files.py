"""A benchmark's official annotations, and the result files that its server reads, as answers to judge.

The benchmark is told by the annotations: VQA (v1, v2, OK-VQA), TextVQA, DocVQA, VizWiz, GQA and A-OKVQA; or they are
one's own records with ids and answers. The answers may also be written as LLaVA or a run of ours writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from vlm_lit.commands.answer_columns import AnswerColumns
from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, again, has_lines, is_table, loaded, rows, with_unique_ids
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.metrics.aokvqa import DIFFICULT
from vlm_lit.metrics.rules import Answer

_Members: TypeAlias = Sequence[Mapping[str, object]]

_VQA_GROUPS: Final = ("answer_type", "question_type")
_GQA_GROUPS: Final = ("structural", "semantic", "detailed")
_OF_AOKVQA: Final = ("direct_answers", "correct_choice_idx", DIFFICULT)
_AOKVQA_SETTINGS: Final = {"aokvqa": "direct_answer", "exact_match": "multiple_choice"}
_OWN_ANSWERS: Final = ("references", "answers", "answer", "label")
_OWN_IDS: Final = ("id", "question_id")
"""What names one's own record, in the order in which `fit` looks for it."""
_OTHER_RESULTS: Final = (
    ("question_id", "answer"), ("question_id", "text"), ("id", "prediction"), ("question_id", "prediction"),
)  # fmt: skip
"""What VQA's servers, LLaVA and a run of ours name a question and its answer by, where a form's names are not there."""

_REMEDY: Final = "Give one of these as it was published, or answers and references in one file by --records."


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How a benchmark writes its files.

    `id_key` and `result_key` name a question in the annotations and in the result file, `answer_key` its answer there.
    """

    name: str
    id_key: str
    result_key: str
    answer_key: str = "answer"
    asked: Callable[[FiledRow, str, str], Answer]


def read_official(
    predictions: Path,
    annotations: Path,
    questions: Path | None = None,
    *,
    metric: str,
    columns: AnswerColumns = AnswerColumns(),  # noqa: B008 - frozen
) -> list[FiledAnswer]:
    """Reads a result file and the annotations it answers, in the order of the annotations.

    Groups are VQA's and VizWiz' `answer_type` and `question_type`, GQA's `structural`, `semantic` and `detailed`, and
    A-OKVQA's `difficult_direct_answer`.

    Args:
        predictions: what the benchmark's server is handed.
        annotations: what was published.
        questions: VQA's questions, to check that they are the same; the others' stand in the annotations.
        metric: the metric's name, by which A-OKVQA's direct answers or chosen options are meant.
        columns: the keys that hold id and prediction in the result file, where they are not told by their names.

    Raises:
        RecordError: a file is broken, of no known form, repeats an id, or the files are not about the same questions.
        ConfigError: there is no such file, or the metric judges neither of A-OKVQA's settings.
    """
    lines = is_table(annotations) or has_lines(annotations)
    form, members = _recognised(annotations, list(rows(annotations)) if lines else loaded(annotations))
    if questions is not None and form is not _VQA:
        raise ConfigError(f"--questions is for VQA; {annotations} holds {form.name}'s questions itself. Leave it out.")
    direct = form is _AOKVQA and predictions.suffix == ".json"  # both settings by question; else one answer a line
    answered_by, found = (
        (form.result_key, _chosen_or_direct(predictions, metric)) if direct else _results(predictions, form, columns)
    )
    numbered = (
        FiledRow(annotations, index, member, id_key=_named_by(form, member, answered_by))
        for index, member in enumerate(members)
    )
    # One that is missing is named with all the others, once they are known.
    filed = list(with_unique_ids(row.filed(form.asked(row, found.get(row.id, ""), metric)) for row in numbered))
    asked = {item.answer.id for item in filed}
    _same_ids(predictions, set(found), annotations, asked)
    if questions is not None:
        _same_ids(questions, _ids_of_questions(questions), annotations, asked)
    return filed


def _recognised(path: Path, whole: object) -> tuple[_Form, _Members]:
    """Whose annotations these are, and the questions in them."""
    for found, members in _candidates(whole):
        if members and all(isinstance(member, dict) for member in members):
            return found, members
    raise RecordError(
        "these are no annotations of VQA, TextVQA, DocVQA, VizWiz, GQA or A-OKVQA",
        remedy=_REMEDY,
        file=path,
        code="json.form",
    )


def _candidates(whole: object) -> Iterator[tuple[_Form, _Members]]:
    if isinstance(whole, dict):
        for key, forms in (("annotations", (_VQA,)), ("data", (_TEXTVQA, _DOCVQA))):
            members = whole.get(key)
            if isinstance(members, list):
                yield from ((form, members) for form in forms if _has(members, form.id_key))
        if _has(list(whole.values()), "imageId"):
            yield _GQA, [_gqa_member(key, entry) for key, entry in whole.items()]
    if isinstance(whole, list):
        if any(_has(whole, "question_id", "choices", key) for key in _OF_AOKVQA):
            yield _AOKVQA, whole
        for id_key, form in _OWN.items():
            if any(_has(whole, id_key, key) for key in _OWN_ANSWERS):
                yield form, whole
        if _has(whole, "image", "answers"):
            yield _VIZWIZ, whole


def _gqa_member(key: str, entry: object) -> Any:  # noqa: ANN401 - whether it is an object is looked at with the others
    return {"id": key, "image_id": entry.get("imageId"), **entry} if isinstance(entry, dict) else entry


def _has(members: Sequence[object], *keys: str) -> bool:
    """Whether one of the first entries has these keys: one that lacks them is named later, as a broken record."""
    return any(isinstance(member, dict) and member.keys() >= set(keys) for member in members[:2])


def _named_by(form: _Form, member: Mapping[str, object], answered_by: str) -> str:
    """The key that names a question: of one's own, that which the answers go by too, else as `fit` takes it."""
    if form.asked is not _own:
        return form.id_key
    keys = (answered_by, *_OWN_IDS) if answered_by in _OWN_IDS else _OWN_IDS
    return next((key for key in keys if member.get(key) is not None), form.id_key)


def _results(path: Path, form: _Form, columns: AnswerColumns) -> tuple[str, Mapping[str, str]]:
    """The key that the answers name their questions by, and the answers."""
    found: dict[str, str] = {}
    entries = rows(path)
    first = next(entries)
    told = ((form.result_key, form.answer_key), *_OTHER_RESULTS)
    id_key, answer_key = next((keys for keys in told if first.keys() >= set(keys)), told[0])
    id_key, answer_key = columns.id or id_key, columns.prediction or answer_key
    for index, entry in enumerate(again(first, entries)):
        row = FiledRow(path, index, columns.with_inner(entry), id_key=id_key)
        if row.id in found:
            row.refuse(f"the {id_key} {row.id} stands there twice", "Keep one answer a question.")
        found[row.id] = row.text(answer_key, column="prediction")
    return id_key, found


def _chosen_or_direct(path: Path, metric: str) -> Mapping[str, str]:
    """A-OKVQA's result file: an object of answers in both settings by question."""
    if metric not in _AOKVQA_SETTINGS:
        raise ConfigError(
            f"A-OKVQA's files are not judged by {metric}: judge direct answers by --metric aokvqa, and chosen options, "
            "which they hold as words, by --metric exact_match."
        )
    whole = loaded(path)
    if not isinstance(whole, dict) or not all(isinstance(entry, dict) for entry in whole.values()):
        remedy = 'Write {"question id": {"multiple_choice": "red", "direct_answer": "red"}, ...}.'
        raise RecordError("it is no object of answers by question", remedy=remedy, file=path, code="json.form")
    entries = ({"question_id": key, **entry} for key, entry in whole.items())
    answers = (FiledRow(path, index, entry, id_key="question_id") for index, entry in enumerate(entries))
    return {row.id: row.text(_AOKVQA_SETTINGS[metric]) for row in answers}


def _ids_of_questions(path: Path) -> set[str]:
    whole = loaded(path)
    members = whole.get("questions") if isinstance(whole, dict) else None
    if not (isinstance(members, list) and members and all(isinstance(member, dict) for member in members)):
        remedy = "Give the file as it was published."
        raise RecordError("it has no list of objects named questions", remedy=remedy, file=path, code="json.form")
    return {FiledRow(path, index, row, id_key="question_id").id for index, row in enumerate(members)}


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


def _people(row: FiledRow, prediction: str, _: str) -> Answer:
    """A question that people answered, with the types that the benchmark gave it."""
    groups = {name: row.text(name) for name in _VQA_GROUPS if name in row.fields}
    return Answer(prediction, row.texts("answers"), row.id, groups=groups)


def _gqa(row: FiledRow, prediction: str, _: str) -> Answer:
    if row.fields.get("isBalanced") is False:
        row.refuse("it is not balanced", "GQA is scored on balanced questions: give testdev_balanced_questions.json.")
    types = row.fields.get("types")
    found = types if isinstance(types, dict) else {}
    groups = {name: value for name in _GQA_GROUPS if isinstance(value := found.get(name), str)}
    return Answer(prediction, (row.text("answer"),), row.id, groups=groups)


def _aokvqa(row: FiledRow, prediction: str, metric: str) -> Answer:
    groups = {DIFFICULT: str(row.fields.get(DIFFICULT)).lower()} if DIFFICULT in row.fields else {}
    if _AOKVQA_SETTINGS[metric] == "direct_answer":
        return Answer(prediction, row.texts("direct_answers"), row.id, groups=groups)
    choices, right = row.texts("choices"), row.fields.get("correct_choice_idx")
    if not isinstance(right, int) or isinstance(right, bool) or not 0 <= right < len(choices):
        problem = f"correct_choice_idx is {right!r} where there are {len(choices)} choices"
        row.refuse(problem, "Give a split whose answers are known.")
    return Answer(prediction, (choices[right],), row.id)


def _own(row: FiledRow, prediction: str, _: str) -> Answer:
    """A record of one's own, as `fit` reads it: with an id and its accepted answers."""
    key = row.first_given(_OWN_ANSWERS)
    groups = {name: row.text(name) for name in _VQA_GROUPS if name in row.fields}
    return Answer(prediction, row.texts(key), row.id, row.texts("choices", optional=True), {**groups, **row.groups()})


_VQA: Final = _Form(name="VQA", id_key="question_id", result_key="question_id", asked=_people)
_TEXTVQA: Final = _Form(name="TextVQA", id_key="question_id", result_key="question_id", asked=_people)
_DOCVQA: Final = _Form(name="DocVQA", id_key="questionId", result_key="questionId", asked=_people)
_VIZWIZ: Final = _Form(name="VizWiz", id_key="image", result_key="image", asked=_people)
_GQA: Final = _Form(name="GQA", id_key="id", result_key="questionId", answer_key="prediction", asked=_gqa)
_AOKVQA: Final = _Form(name="A-OKVQA", id_key="question_id", result_key="question_id", asked=_aokvqa)
_OWN: Final = {key: _Form(name="your own records", id_key=key, result_key=key, asked=_own) for key in _OWN_IDS}
