"""AMBER's annotations, and answers to its questions, as records to judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_columns import AnswerColumns
from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, again, rows, with_unique_ids
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.metrics.amber import DIMENSIONS, GENERATIVE, TYPE
from vlm_lit.metrics.rules import Answer

_ANSWERS: Final = ("response", "prediction", "answer", "text")
_IDS: Final = ("id", "question_id")

NO_GENERATIVE: Final = (
    "AMBER's generative questions are not judged here: CHAIR, Cover, Hal and Cog take NLTK's part-of-speech tagger, "
    "WordNet's lemmas and the word vectors of spaCy's en_core_web_lg, which is not on PyPI. Judge them by AMBER's own "
    "inference.py (--evaluation_type g), or give answers to its discriminative questions (ids 1005 to 15220)."
)


def read_amber(
    predictions: Path, annotations: Path, questions: Path | None, columns: AnswerColumns
) -> list[FiledAnswer]:
    """Reads answers to AMBER's questions, in their order, with the truth and the type of each.

    Of each dimension (existence, attribute, relation) that is answered, every question must be. Generative answers are
    kept, for the metric to leave out, unless there are no others.

    Args:
        predictions: the answers, `[{"id": 1005, "response": "Yes"}]`, or a run's.
        annotations: AMBER's `data/annotations.json`.
        questions: one of AMBER's `data/query/query_*.json`, which alone say which picture a question is about.
        columns: the keys that hold id and answer, where they are not told by their names.

    Raises:
        RecordError: a file is broken or of another form, repeats an id, or does not answer a dimension to its end.
        ConfigError: there is no such file, or there are generative answers alone.
    """
    truths = _truths(annotations)
    images = None if questions is None else _images(questions)
    filed = list(with_unique_ids(_answers(predictions, annotations, truths, questions, images, columns)))
    if all(item.answer.groups[TYPE] == GENERATIVE for item in filed):
        raise ConfigError(f"{predictions}: {NO_GENERATIVE}")
    _whole_dimensions(predictions, {item.answer.id for item in filed}, annotations, truths)
    return filed


def _truths(path: Path) -> dict[str, tuple[str, str]]:
    """Each question's type, and its truth; of a generative one nothing."""
    found: dict[str, tuple[str, str]] = {}
    for index, entry in enumerate(rows(path)):
        row = FiledRow(path, index, entry)
        kind = row.text(TYPE)
        if kind != GENERATIVE and kind not in DIMENSIONS:
            row.refuse(f"type is {kind!r}, which AMBER does not have", "Give data/annotations.json as published.")
        truth = "" if kind == GENERATIVE else row.text("truth")
        if kind != GENERATIVE and truth not in ("yes", "no"):
            row.refuse(f"truth is {truth!r}", "It must be yes or no: give data/annotations.json as published.")
        if row.id in found:
            row.refuse(f"the id {row.id} stands there twice", "Give data/annotations.json as published.")
        found[row.id] = kind, truth
    return found


def _images(path: Path) -> Mapping[str, str]:
    read = (FiledRow(path, index, entry) for index, entry in enumerate(rows(path)))
    return {row.id: row.text("image") for row in read}


def _answers(
    path: Path,
    annotations: Path,
    truths: Mapping[str, tuple[str, str]],
    questions: Path | None,
    images: Mapping[str, str] | None,
    columns: AnswerColumns,
) -> Iterator[FiledAnswer]:
    entries = rows(path)
    first = columns.with_inner(next(entries))
    id_key = columns.id or next((key for key in _IDS if key in first), _IDS[0])
    answer_key = columns.prediction or next((key for key in _ANSWERS if key in first), _ANSWERS[0])
    for index, entry in enumerate(again(first, entries)):
        row = FiledRow(path, index, columns.with_inner(entry), id_key=id_key)
        if row.id not in truths:
            row.refuse(f"{annotations} has no question {row.id}", "Take it out, or keep AMBER's own ids.")
        if images is not None and row.id not in images:
            row.refuse(f"{questions} has no question {row.id}", "Give data/query/query_all.json.")
        kind, truth = truths[row.id]
        references = (truth,) if truth else ()
        answer = Answer(row.text(answer_key, column="prediction"), references, row.id, groups={TYPE: kind})
        yield FiledAnswer(answer, None if images is None else images[row.id], path, row.place)


def _whole_dimensions(path: Path, answered: set[str], annotations: Path, truths: Mapping[str, tuple[str, str]]) -> None:
    dimension = {id_: DIMENSIONS[kind][0] for id_, (kind, _) in truths.items() if kind in DIMENSIONS}
    begun = {dimension[id_] for id_ in answered if id_ in dimension}
    missing = [id_ for id_, name in dimension.items() if name in begun and id_ not in answered]
    if missing:
        counts = Counter(dimension[id_] for id_ in missing)
        listed = ", ".join(f"{n:,} of {name}" for name, n in counts.items())
        raise RecordError(
            f"{len(missing):,} questions in {annotations} are missing ({listed}), such as {missing[0]}",
            remedy='Answer every question of a dimension; "" is an answer. A whole dimension may be left out.',
            file=path,
            record=missing[0],
            code="ids.missing",
        )
