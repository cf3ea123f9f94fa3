"""Result files in the forms that benchmarks' servers and judges read.

The servers of VQA v2, TextVQA, VizWiz, DocVQA, GQA, MMMU, A-OKVQA and POPE each read a file of their own. All of them
match answers to questions by the data set's ids (POPE by position), so a run must have kept those ids. Judges that ask
another model are here too: AMBER (its generative part), Object HalBench and MMHal-Bench, which match by the picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final, TypeVar

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.multiple_choice import LETTERS, extracted_letter
from vlm_lit.schema import Prediction

_Key = TypeVar("_Key", str, int)

_NUMBER_OF_PICTURE: Final = re.compile(r"(?:.*[_/])?0*([0-9]+)(?:\.[a-z]+)?")
_OF_MMHAL: Final = ("image_id", "image_src", "image_content", "question", "gt_answer")
_PICTURE: Final = re.compile(r"VizWiz_\w+\.jpg")
_ONE_LETTER: Final = re.compile(r"\(?([A-Z])\)?[.:]?")
_OPTION: Final = re.compile(r"([A-Z])\. (.+)")


def server_file(
    name: str, predictions: Sequence[Prediction], template: Sequence[Mapping[str, object]] | None = None
) -> str:
    """The text of the file that a benchmark's server reads, in the predictions' order.

    Args:
        name: one of `FORMATS`, or of `FILLED`.
        predictions: one a question, under the data set's own ids; for A-OKVQA one in either of its settings, or both.
        template: the benchmark's own records, for one of `FILLED`.

    Raises:
        ConfigError: there is no such format, or its template is missing.
        VlmLitError: an id is not of the server's kind, two predictions have one id, only one of A-OKVQA's two settings
            has it, or a template's record has no prediction; names it.
    """
    if name in FILLED:
        if template is None:
            raise ConfigError(f"The format {name} fills in the benchmark's own file. Give it by --annotations.")
        return FILLED[name](predictions, template)
    if name not in FORMATS:
        raise ConfigError(f"There is no server format {name!r}. Formats are: {', '.join((*FORMATS, *FILLED))}.")
    return FORMATS[name](predictions)


def _vqa_v2(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _whole_number)
    return _as_json([{"question_id": key, "answer": p.prediction} for key, p in answers.items()])


def _docvqa(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _whole_number)
    return _as_json([{"questionId": key, "answer": p.prediction} for key, p in answers.items()])


def _vizwiz(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _picture)
    return _as_json([{"image": key, "answer": p.prediction} for key, p in answers.items()])


def _gqa(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _as_it_is)
    return _as_json([{"questionId": key, "prediction": p.prediction} for key, p in answers.items()])


def _mmmu(predictions: Sequence[Prediction]) -> str:
    """A reply that means one of the options is its letter; open questions keep their words."""
    answers = _by_id(predictions, _as_it_is)
    return _as_json({key: _letter_or_words(p) for key, p in answers.items()})


def _aokvqa(predictions: Sequence[Prediction]) -> str:
    """Answers to questions with options are chosen among them, others direct; a chosen one stands in for both."""
    chosen = _by_id([p for p in predictions if _options(p)], _as_it_is)
    direct = _by_id([p for p in predictions if not _options(p)], _as_it_is)
    strangers = sorted(chosen.keys() ^ direct.keys())
    if chosen and direct and strangers:
        raise VlmLitError(
            f"{len(strangers):,} questions have an answer in one of the two settings only, such as {strangers[0]!r}. "
            "Give both runs the same split, or hand in one of them."
        )
    texts = {key: _chosen_text(p) for key, p in chosen.items()}
    both = {key: {"multiple_choice": text, "direct_answer": text} for key, text in texts.items()}
    return _as_json({key: {**both.get(key, {}), "direct_answer": p.prediction} for key, p in direct.items()} or both)


def _pope(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _as_it_is)
    rows = ({"question_id": key, "question": p.question, "answer": p.prediction} for key, p in answers.items())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _amber(predictions: Sequence[Prediction]) -> str:
    answers = _by_id(predictions, _whole_number)
    return _as_json([{"id": key, "response": p.prediction} for key, p in answers.items()])


def _object_halbench(predictions: Sequence[Prediction]) -> str:
    """Lines as RLHF-V's and RLAIF-V's `eval_gpt_obj_halbench.py` reads them, from a file that ends in `.jsonl`."""
    answers = _by_id(predictions, _as_it_is)
    rows = (
        {"question_id": key, "image_id": _coco_number(p), "question": p.question, "answer": p.prediction}
        for key, p in answers.items()
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _mmhal(predictions: Sequence[Prediction], template: Sequence[Mapping[str, object]]) -> str:
    """`response_template.json` with each `model_answer` filled in, as `eval_gpt4.py` reads it."""
    by_name: dict[str, list[Prediction]] = {}
    for prediction in _by_id(predictions, _as_it_is).values():
        for name in _picture_names(prediction.id, prediction.image_id, prediction.image):
            by_name.setdefault(name, []).append(prediction)
    filled = []
    for place, record in enumerate(template):
        if not all(name in record for name in _OF_MMHAL):
            needed = ", ".join(_OF_MMHAL)
            raise VlmLitError(f"Record {place} of the template is none of MMHal-Bench's: these have {needed}.")
        names = _picture_names(str(record["image_id"]), str(record["image_src"]))
        found = {p.id: p.prediction for name in names for p in by_name.get(name, ())}
        if len(found) != 1:
            those = f"{len(found)} predictions are" if found else "No prediction is"
            raise VlmLitError(
                f"{those} about the picture {record['image_id']!r} of MMHal-Bench (record {place}, {names[-1]}). Give "
                "one: its id or image_id is that name, or its picture is called so."
            )
        filled.append({**record, "model_answer": next(iter(found.values()))})
    return json.dumps(filled, ensure_ascii=False, indent=2) + "\n"


FORMATS: Final[Mapping[str, Callable[[Sequence[Prediction]], str]]] = {
    "vqa_v2": _vqa_v2,
    "textvqa": _vqa_v2,
    "vizwiz": _vizwiz,
    "docvqa": _docvqa,
    "gqa": _gqa,
    "mmmu": _mmmu,
    "aokvqa": _aokvqa,
    "pope": _pope,
    "amber": _amber,
    "object_halbench": _object_halbench,
}
"""What writes each server's file."""

FILLED: Final[Mapping[str, Callable[[Sequence[Prediction], Sequence[Mapping[str, object]]], str]]] = {"mmhal": _mmhal}
"""What fills in a benchmark's own file."""


def _by_id(predictions: Sequence[Prediction], key_of: Callable[[Prediction], _Key]) -> dict[_Key, Prediction]:
    """The predictions by the ids that the server knows them by."""
    found: dict[_Key, Prediction] = {}
    for prediction in predictions:
        key = key_of(prediction)
        if key in found:
            raise VlmLitError(f"Two predictions have the id {key!r}. Servers want one answer a question: take one out.")
        found[key] = prediction
    return found


def _whole_number(prediction: Prediction) -> int:
    if not (prediction.id.isascii() and prediction.id.isdecimal()):
        raise VlmLitError(
            f"The id {prediction.id!r} is not a whole number, and this server knows questions by numbers. "
            "Evaluate with the data set's own ids: `id` or `question_id` in the records, or by the setting `columns`."
        )
    return int(prediction.id)


def _picture(prediction: Prediction) -> str:
    if not _PICTURE.fullmatch(prediction.id):
        raise VlmLitError(
            f"The id {prediction.id!r} is not a picture's name such as VizWiz_test_00000000.jpg, by which this server "
            "knows questions. Evaluate with these names as ids."
        )
    return prediction.id


def _coco_number(prediction: Prediction) -> int:
    """The number of a picture of COCO, from its id or from its file's name."""
    match = _NUMBER_OF_PICTURE.fullmatch(prediction.image_id or prediction.image or "")
    if match is None:
        raise VlmLitError(
            f"The prediction {prediction.id!r} is about {prediction.image_id or prediction.image or 'no picture'}, and "
            "Object HalBench knows pictures by COCO's numbers. Evaluate with image_id, or COCO's file names."
        )
    return int(match[1])


def _picture_names(*given: str | None) -> list[str]:
    """The names that a picture may go by: each given one, and the file's name in it without its ending."""
    return list(dict.fromkeys(name for text in given if text for name in (text, PurePosixPath(text).stem)))


def _as_it_is(prediction: Prediction) -> str:
    return prediction.id


def _letter_or_words(prediction: Prediction) -> str:
    reply = prediction.prediction
    if prediction.choices:
        return extracted_letter(reply, prediction.choices) or reply
    letter = _ONE_LETTER.fullmatch(reply.strip())  # an older file has no choices
    return letter[1] if letter else reply


def _chosen_text(prediction: Prediction) -> str:
    options = _options(prediction)
    letter = extracted_letter(prediction.prediction, options)
    return prediction.prediction if letter is None else options[LETTERS.index(letter)]


def _options(prediction: Prediction) -> Sequence[str]:
    """The choices; in an older file, the texts of the lines `A. red`, `B. green`, ... of the question."""
    lines = filter(None, map(_OPTION.fullmatch, prediction.question.splitlines()))
    shown = [line[2] for line, letter in zip(lines, LETTERS, strict=False) if line[1] == letter]
    return prediction.choices or shown


def _as_json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"
