"""Two rows of each benchmark in a Parquet file, in the columns that the data set has on the hub."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import datasets

from tests.support import small_tables, tiny_models

Row = dict[str, Any]

_TEXT: Final = datasets.Value("string")
_TEXTS: Final = datasets.List(_TEXT)
_WHOLE: Final = datasets.Value("int64")
_PICTURE: Final = datasets.Image()


def _png(seed: int) -> dict[str, object]:
    buffer = io.BytesIO()
    tiny_models.picture(seed).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _vqav2(i: int) -> Row:
    people = ["red"] * 9 + ["blue"]
    return {
        "question_type": "what color",
        "multiple_choice_answer": "red",
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k} for k, a in enumerate(people, 1)],
        "image_id": 262148,
        "answer_type": "other",
        "question_id": 262148000 + i,
        "question": f"what colour is lamp {i}?",
        "image": _png(0),
    }


def _textvqa(i: int) -> Row:
    return {
        "image_id": "003a8ae2ef43b901",
        "question_id": 34602 + i,
        "question": f"what is on lamp {i}?",
        "question_tokens": ["what"],
        "image": _png(i),
        "image_width": 40,
        "image_height": 32,
        "flickr_original_url": "",
        "flickr_300k_url": "",
        "answers": ["red"] * 10,
        "image_classes": ["Lamp"],
        "set_name": "val",
        "ocr_tokens": ["LAMP", "two"] if i == 0 else [],
    }


def _docvqa(i: int) -> Row:
    return {
        "questionId": str(49153 + i),
        "question": f"how many tools are on page {i}?",
        "question_types": ["handwritten", "form"],
        "image": _png(i),
        "docId": 14465,
        "ucsf_document_id": "pybv0228",
        "ucsf_document_page_no": "81",
        "answers": ["two", "2"],
        "data_split": "val",
    }


def _pope(i: int) -> Row:
    return {
        "id": str(i),
        "question_id": "1",  # each category's first
        "question": f"Is there a lamp {i} in the image?",
        "answer": ["yes", "no"][i],
        "image_source": "COCO_val2014_000000310196",
        "image": _png(0),
        "category": ["adversarial", "popular"][i],
    }


def _vizwiz(i: int) -> Row:
    return {
        "question_id": f"VizWiz_val_0000000{i}.jpg",
        "image": _png(i),
        "question": "Which colour?",
        "answers": ["red"] * 6 + ["unanswerable"] * 4,
        "category": "other",
    }


def _scienceqa(i: int) -> Row:
    names = ("task", "grade", "topic", "category", "skill", "lecture", "solution")
    return {
        "image": _png(i),
        "question": "Which is a lamp?",
        "choices": ["the red one", "the green one"],
        "answer": i,
        "hint": ["Lamps are red.", ""][i],
        "subject": "natural science",
        **dict.fromkeys(names, "words"),
    }


def _aokvqa(i: int) -> Row:
    return {
        "image": _png(i),
        "question_id": f"22jbM6gDxdaMaunuzgrsB{i}",
        "question": "Which is a lamp?",
        "choices": ["red", "green", "blue", "two"],
        "correct_choice_idx": 3,
        "direct_answers": "['red', 'red']",
        "difficult_direct_answer": False,
        "rationales": ["It is lit."],
    }


def _ai2d(i: int) -> Row:
    return {"question": f"What is {i}?", "options": ["red", "green", "two"], "answer": "2", "image": _png(i)}


def _gqa(i: int) -> Row:
    return {
        "id": f"2013619{i}",
        "imageId": f"n16131{i}",
        "question": f"What colour is lamp {i}?",
        "answer": "red",
        "fullAnswer": "The lamp is red.",
        "isBalanced": True,
        "groups": {"global": "color", "local": "10q-lamp_color"},
        "entailed": "",
        "equivalent": "",
        "types": {"structural": ["query", "verify"][i], "semantic": "attr", "detailed": "directOf"},
        "annotations": {"question": [], "answer": [], "fullAnswer": []},
        "semantic": [{"operation": "select", "argument": "lamp", "dependencies": []}],
        "semanticStr": "select: lamp",
    }


def _gqa_image(i: int) -> Row:
    return {"id": f"n16131{1 - i}", "image": _png(1 - i)}  # in another order than the questions


def _mmmu(i: int) -> Row:
    asked = [
        {
            "id": "validation_Accounting_1",
            "question": "Beside <image 1>, which is a lamp?",
            "options": "['red', '<image 2>', \"a lamp's light\"]",
            "answer": "B",
            "question_type": "multiple-choice",
        },
        {
            "id": "validation_Math_19",
            "question": "<image 1> How many tools?",
            "options": "[]",
            "answer": "['2', 'two']",
            "question_type": "open",
        },
    ][i]
    images = {f"image_{k}": _png(k) if k <= 3 else None for k in range(1, 8)}  # image_3 is in the explanation only
    return {
        **asked,
        **images,
        "explanation": "See <image 3>.",
        "img_type": "['Diagrams']",
        "topic_difficulty": "Easy",
        "subfield": "Managerial Accounting",
    }


_PAIRS: Final = datasets.List({"objectId": _TEXT, "value": _TEXT})
_ANSWER: Final = {"answer": _TEXT, "answer_confidence": _TEXT, "answer_id": _WHOLE}
_FEATURES: Final[Mapping[str, object]] = {
    "image": _PICTURE,
    "choices": _TEXTS,
    "options": _TEXTS,
    "question_tokens": _TEXTS,
    "image_classes": _TEXTS,
    "ocr_tokens": _TEXTS,
    "question_types": _TEXTS,
    "rationales": _TEXTS,
    **{f"image_{k}": _PICTURE for k in range(1, 8)},
}
"""Columns that are no plain text or number; what those are, their values say."""

_SPECIAL: Final[Mapping[str, Mapping[str, object]]] = {
    "vqav2": {"answers": datasets.List(_ANSWER)},
    "textvqa": {"question_id": datasets.Value("int32"), "answers": _TEXTS},
    "docvqa": {"answers": _TEXTS},
    "vizwiz": {"answers": _TEXTS},
    "scienceqa": {"answer": datasets.Value("int8")},
    "aokvqa": {"correct_choice_idx": datasets.Value("int8")},
    "aokvqa_direct": {"correct_choice_idx": datasets.Value("int8")},
    "mmmu": {"options": _TEXT},
    "gqa": {
        "groups": {"global": _TEXT, "local": _TEXT},
        "types": {"structural": _TEXT, "semantic": _TEXT, "detailed": _TEXT},
        "annotations": {"question": _PAIRS, "answer": _PAIRS, "fullAnswer": _PAIRS},
        "semantic": datasets.List({"operation": _TEXT, "argument": _TEXT, "dependencies": datasets.List(_WHOLE)}),
    },
}
_ROWS: Final = {
    "vqav2": _vqav2,
    "textvqa": _textvqa,
    "docvqa": _docvqa,
    "pope": _pope,
    "vizwiz": _vizwiz,
    "scienceqa": _scienceqa,
    "aokvqa": _aokvqa,
    "aokvqa_direct": _aokvqa,
    "ai2d": _ai2d,
    "gqa": _gqa,
    "gqa_images": _gqa_image,
    "mmmu": _mmmu,
}


def write_benchmark(name: str, folder: Path) -> Path:
    """`<name>.parquet` with two rows."""
    data_set = name.removesuffix("_ocr")
    if data_set == "chartqa":
        return small_tables.write_charts(folder, 2)
    rows = [_ROWS[data_set](i) for i in range(2)]
    features = {key: _feature(data_set, key, value) for key, value in rows[0].items()}
    path = folder / f"{name}.parquet"
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(str(path))
    return path


def further_sources(name: str, folder: Path) -> dict[str, Path]:
    """The options that name what else a benchmark reads, written as well."""
    return {"data.init_args.test.images_from.path": write_benchmark("gqa_images", folder)} if name == "gqa" else {}


def _feature(data_set: str, key: str, value: object) -> object:
    plain = datasets.Value({str: "string", bool: "bool", int: "int64"}.get(type(value), "string"))
    return _SPECIAL.get(data_set, {}).get(key, _FEATURES.get(key, plain))
