"""Samples that another harness judged, as systems to compare: its answers with its own scores.

lmms-eval writes `*_samples_<task>.jsonl` with `--log_samples`: a key a metric beside `doc_id`, `target` and `resps`, a
number or an object that holds `score` (read at its commit 75571cf, 2026-08).

VLMEvalKit was read at its commit e8e78f0 (2026-08). Beside its prediction file it writes a table with a row a
question. `hit` is 1 or 0 there: `mcq_vanilla_eval` and `mcq_circular_eval` in
`vlmeval/dataset/utils/multiple_choice.py` write it (`..._result.xlsx`), and so do data sets with a judge or a rule of
their own (`image_shortqa.py`, `refcoco.py`). In a circular evaluation there is one row a question, 1 where all
rotations of its options were right; in the table of all rotations (`..._vanilla_all_result`) `g_index` says which
rows are one question, so these are one cluster here. Data sets of numbers leave `hit` empty in some rows
(`vsibench.py`, `sparbench.py`), and such a file is refused. Yes/no questions have `score` instead (`image_yorn.py`),
VQA accuracy `eval_score` (`image_vqa.py`); what other columns mean depends on the data set, so any but `hit` is to be
named. Its summaries (`..._acc.csv`) have no rows of questions and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from vlm_lit.commands.answer_files import form_of, read_records
from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, rows
from vlm_lit.errors import ConfigError, VlmLitError, nearest
from vlm_lit.files.open_text import begins_with
from vlm_lit.schema import Prediction
from vlm_lit.studies.run_files.systems import System, distinct_names, open_systems

_FILES: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx")
_HARNESSES: Final = {"doc_id": "lmms-eval", "index": "VLMEvalKit"}
_NO_METRIC: Final = (
    "doc_id", "doc", "target", "arguments", "input", "resps", "filtered_resps", "doc_hash", "prompt_hash",
    "target_hash", "idx", "filter",
)  # fmt: skip
"""Keys of lmms-eval's samples that are no metric, whatever they hold."""
_HIT: Final = "hit"
_ONE_PICTURE: Final = ("image_path", "g_index")
"""Columns of VLMEvalKit that say which rows show one picture, where its data set has them."""
_NO_SCORE: Final = ("index", "question", "answer", "prediction", "image", *_ONE_PICTURE)
"""The same of VLMEvalKit's columns."""
_WORDS: Final = {"true": 1.0, "false": 0.0}


def systems_of(paths: Sequence[Path], names: Sequence[str] | None, metric: str | None) -> list[System]:
    """Open what is to be compared, files of other harnesses among it.

    Args:
        paths: run directories, `scores.json` files, and samples of lmms-eval or VLMEvalKit.
        names: what to call them; otherwise the names of their folders and files.
        metric: which of the samples' metrics is compared; None where there is one alone.

    Raises:
        VlmLitError: a path is none of these, a file is broken, or the names do not fit.
    """
    if not any(_is_samples(path) for path in paths):
        if metric is not None:
            raise ConfigError(
                "--metric is for the samples of lmms-eval and VLMEvalKit; a run is compared by its first."
            )
        return open_systems(paths, names)
    called = list(names) if names is not None else _short_names(paths)
    if len(called) != len(paths) or len(set(called)) < len(called) or not all(called):
        raise VlmLitError(
            f"--names gives {', '.join(called)} for {len(paths)} systems. Write a name of its own for each."
        )
    return [
        _judged(path, name, metric) if _is_samples(path) else open_systems([path], [name])[0]
        for path, name in zip(paths, called, strict=True)
    ]


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names without the files' endings, nor the last words that all have: `a_pope_result.tsv` is `a`."""
    found = distinct_names([path.with_suffix("") if _is_samples(path) else path for path in paths])
    words = [name.split("_") for name in found]
    while min(map(len, words)) > 1 and len({parts[-1] for parts in words}) == 1:
        words = [parts[:-1] for parts in words]
    short = ["_".join(parts) for parts in words]
    return short if len(set(short)) == len(short) else found


def _is_samples(path: Path) -> bool:
    ending = path.suffix.lower()
    return path.is_file() and (ending in _FILES or (ending == ".json" and begins_with(path, b"[")))


def _judged(path: Path, name: str, metric: str | None) -> System:
    first = next(rows(path))
    form = form_of(first)
    if form.id not in _HARNESSES:
        raise ConfigError(
            f"{path} holds {form.name}, whose scores are not known. Name the run's directory, or judge them first: "
            f"score --records {path} --output scores.json, and compare that."
        )
    key = _metric(path, first, form.id, metric)
    answers, scores = {}, {}
    for index, (filed, fields) in enumerate(zip(read_records(path), rows(path), strict=True)):
        scores[filed.answer.id] = _score(FiledRow(path, index, fields, id_key=form.id), key)
        answers[filed.answer.id] = _prediction(filed, fields, scores[filed.answer.id])
    return System(
        name=name,
        path=path,
        answers=answers,
        scores=scores,
        image_ids={id_: answer.image_id for id_, answer in answers.items()},
        metric=f"{_HARNESSES[form.id]}:{key}",
    )


def _metric(path: Path, first: Mapping[str, object], id_key: str, asked: str | None) -> str:
    """The key that holds the scores."""
    if id_key == "index":
        there = [name for name in first if name not in _NO_SCORE]
        found = [_HIT] if _HIT in first else []
    else:
        there = [name for name, value in first.items() if name not in _NO_METRIC and _number(value) is not None]
        found = there
    if not there:
        raise ConfigError(f"{path} holds no score: there is {', '.join(first)}. Name a file that the harness judged.")
    if asked is not None:
        if asked in first and asked not in (*_NO_METRIC, *_NO_SCORE):
            return asked
        near = nearest(asked, there)
        raise ConfigError(f"{path} has no {asked}." + (f" Did you mean {near}?" if near else f" There is: {there}."))
    if len(found) != 1:
        raise ConfigError(
            f"{path} has {'several metrics' if found else 'no score that is known'}: {', '.join(there) or 'nothing'}. "
            "Name the key of one by --metric."
        )
    return found[0]


def _score(row: FiledRow, key: str) -> float:
    value = _number(row.fields.get(key))
    if value is None or not 0.0 <= value <= 1.0:
        row.refuse(f"{key} is {row.fields.get(key)!r:.60}", "A score that is compared is a number from 0 to 1.")
    return value


def _number(value: object) -> float | None:
    """A score as a harness writes it: a number, its digits, `True`, or an object that holds `score`."""
    if isinstance(value, Mapping):
        value = value.get("score")
    if isinstance(value, str):
        try:
            word = value.strip().lower()
            value = _WORDS[word] if word in _WORDS else float(word)
        except ValueError:
            return None
    return float(value) if isinstance(value, (bool, int, float)) and math.isfinite(value) else None


def _prediction(filed: FiledAnswer, fields: Mapping[str, object], score: float) -> Prediction:
    answer, doc = filed.answer, fields.get("doc")
    inner = doc if isinstance(doc, Mapping) else {}
    asked = next((v for v in (fields.get("question"), inner.get("question"), fields.get("input")) if v is not None), "")
    names = (filed.image_id, inner.get("image_id"), *(map(fields.get, _ONE_PICTURE) if "index" in fields else ()))
    image = next((name for name in names if name is not None), None)
    return Prediction(
        id=answer.id,
        image=None,
        image_id=None if image is None else str(image),
        question=asked if isinstance(asked, str) else "",
        references=tuple(answer.references),
        prediction=answer.prediction,
        score=score,
        groups=dict(answer.groups),
        choices=tuple(answer.choices),
    )
