"""Tests of the forms in vlm_lit/data/README.md: each example is a file that gives one conversation to learn."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

import vlm_lit
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings

README = (Path(vlm_lit.__file__).parent / "data" / "README.md").read_text(encoding="utf-8")
FILES = re.findall(r"^\| ([^|]+) \| [^|{]+ \|$", README.split("| file | kept as |")[1].split("\n\n")[0], re.MULTILINE)
SINGLE = README.split("## Pairs of answers")[0]
EXAMPLES = dict(re.findall(r"^\| ([^|]+) \| `(\{.*\})` \|", SINGLE, re.MULTILINE))


def test_the_table_is_there() -> None:
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("form", EXAMPLES)
def test_an_example_is_one_conversation_about_its_picture(form: str, ending: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    record = json.loads(EXAMPLES[form])
    (tmp_path / f"train.{ending}").write_text(json.dumps([record] if ending == "json" else record))
    data = open_source(
        SourceSettings(path=str(tmp_path / f"train.{ending}")),
        prompt=None,
        system=None,
        requires_answer=True,
        check_images=True,
    )
    assert isinstance(data, ConversationDataset)
    assert len(data) == 1
    conversation = data[0]
    assert [ref.path for ref in conversation.images] == [tmp_path / "a.png"]
    assert conversation.turns[-1].role == "assistant"
    assert conversation.turns[-1].text == "yes"
    assert conversation.turns[-1].supervised
    assert not conversation.notes, "a key of the example is not used"
    words = "".join(turn.text for turn in conversation.turns[:-1])
    assert "<image>" not in words
    assert form == "caption" or "Is it red?" in words


# Files ---------------------------------------------------------------------------------------------------------------

ROWS = [{"id": str(k), "image": f"{k}.png", "question": "Is it red?", "answer": "yes"} for k in range(2)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
Made = str | list[str] | dict[str, Any]


def table(delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(folder / name)


def rows_of_a_table(folder: Path) -> datasets.Dataset:
    pictures = [{"bytes": (folder / f"{k}.png").read_bytes(), "path": None} for k in range(2)]
    return datasets.Dataset.from_list([{**row, "image": one} for row, one in zip(ROWS, pictures, strict=True)])


def json_files(folder: Path) -> list[Made]:
    keyed = {row["id"]: {key: value for key, value in row.items() if key != "id"} for row in ROWS}
    return [
        written(folder, "list.json", json.dumps(ROWS)),
        written(folder, "lines.json", LINES),
        written(folder, "key.json", json.dumps({"version": 1, "data": ROWS})),
        written(folder, "ids.json", json.dumps(keyed)),
    ]


def tables(folder: Path) -> list[Made]:
    data = rows_of_a_table(folder)
    data.to_parquet(folder / "a.parquet")
    data.save_to_disk(str(folder / "saved"))
    arrow = next((folder / "saved").glob("*.arrow")).rename(folder / "a.arrow")
    data.save_to_disk(str(folder / "again"))
    return [str(folder / "a.parquet"), str(arrow), str(folder / "again")]


def image_folder(folder: Path) -> list[Made]:
    rows = [{"file_name": row["image"], "question": row["question"], "answer": row["answer"]} for row in ROWS]
    written(folder, "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return [str(folder)]


def shards(folder: Path) -> list[Made]:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for k, row in enumerate(ROWS):
            for name, data in (
                (f"s{k}.png", (folder / f"{k}.png").read_bytes()),
                (f"s{k}.json", json.dumps(row).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return [str(folder / "a.tar")]


def vqa_pair(folder: Path) -> list[Made]:
    asked = [{"question_id": k, "image_id": k, "question": "Is it red?"} for k in range(2)]
    known = [{"question_id": k, "image_id": k, "answers": [{"answer": "yes", "answer_id": 1}]} for k in range(2)]
    questions = written(folder, "questions.json", json.dumps({"questions": asked}))
    annotations = written(folder, "answers.json", json.dumps({"annotations": known}))
    return [{"path": questions, "annotations": annotations, "image_name": "{image_id}.png"}]


def several(folder: Path) -> list[Made]:
    for k, row in enumerate(ROWS):
        written(folder, f"part{k}.json", json.dumps([row]))
    names = [str(folder / f"part{k}.json") for k in range(2)]
    return [names, str(folder / "part*.json"), {"path": names, "weights": [1.0, 1.0]}]


WRITERS: dict[str, Callable[[Path], list[Made]]] = {
    "`.json`": json_files,
    "`.jsonl`, `.jsonl.gz`": lambda folder: [written(folder, f"a.{ending}", LINES) for ending in ("jsonl", "jsonl.gz")],
    "`.csv`, `.tsv`": lambda folder: [
        written(folder, name, table(delimiter))
        for name, delimiter in (("a.csv", ","), ("a.csv.gz", ","), ("a.tsv", "\t"), ("a.tsv.gz", "\t"))
    ],
    "`.parquet`, `.arrow`, a folder that `datasets` saved": tables,
    "a folder with `metadata.jsonl` or `metadata.csv`": image_folder,
    "`.tar`": shards,
    "questions and `annotations`": vqa_pair,
    "lists and patterns of these": several,
}


def test_the_table_of_files_has_a_writer_a_line() -> None:
    assert list(WRITERS) == FILES


@pytest.mark.parametrize("kind", WRITERS)
def test_a_kind_of_file_gives_its_two_records(kind: str, tmp_path: Path) -> None:
    for k in range(2):
        Image.new("RGB", (32, 32), ("red", "blue")[k]).save(tmp_path / f"{k}.png")
    for made in WRITERS[kind](tmp_path):
        settings = made if isinstance(made, dict) else {"path": made}
        data = open_source(
            SourceSettings(**settings), prompt=None, system=None, requires_answer=True, check_images=True
        )
        assert isinstance(data, ConversationDataset)
        assert [data[k].turns[-1].text for k in range(len(data))] == ["yes", "yes"], made
        assert [data[k].turns[0].text.strip() for k in range(len(data))] == ["Is it red?"] * 2, made
        assert [len(data[k].images) for k in range(len(data))] == [1, 1], made
