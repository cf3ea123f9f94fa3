"""Tests of every accepted form of file: its records, each with its file, its place and its images."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_models
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Conversation, Record

ROWS: list[dict[str, Any]] = [
    {"question": "a?", "answer": "b", "image": "0.png"},
    {"question": "c?", "answer": "d", "image": "1.png"},
]
CHATS = [
    [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in ROWS
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(2):
        tiny_models.picture(k).save(tmp_path / f"{k}.png")
    return tmp_path


def lines(rows: Sequence[object] = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(delimiter: str, rows: Sequence[dict[str, Any]] = ROWS) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def opened(path: str | list[str], *, train: bool = True, **more: Any) -> ConversationDataset:
    source = SourceSettings(path=path, **more)
    dataset = open_source(source, prompt=None, system=None, requires_answer=train, check_images=True)
    assert isinstance(dataset, ConversationDataset)
    return dataset


def every(data: ConversationDataset) -> list[Conversation]:
    return [data[i] for i in range(len(data))]


def said(conversation: Conversation) -> tuple[str, ...]:
    return tuple(turn.text for turn in conversation.turns)


TEXTS = {
    "a.json": json.dumps(ROWS),
    "lines.json": lines(),
    "a.jsonl": lines(),
    "a.ndjson": lines(),
    "a.jsonl.gz": lines(),
    "a.json.gz": json.dumps(ROWS),
    "a.csv": table(","),
    "a.csv.gz": table(","),
    "a.tsv": table("\t"),
    "data.json": json.dumps({"version": "1", "info": {"year": 2020}, "data": ROWS}),
    "annotations.json": json.dumps({"annotations": ROWS, "licenses": [{"id": 1}]}),
    "other.json": json.dumps({"all_of_them": ROWS}),
    "ids.json": json.dumps({"x": ROWS[0], "y": ROWS[1]}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_file_gives_its_records(folder: Path, name: str) -> None:
    path = write(folder / name, TEXTS[name])
    data = opened(str(path))
    assert [said(conversation) for conversation in every(data)] == [("a?", "b"), ("c?", "d")]
    assert [conversation.images[0].path for conversation in every(data)] == [folder / "0.png", folder / "1.png"]
    assert [conversation.id for conversation in every(data)] == (["x", "y"] if name == "ids.json" else ["0", "1"])
    assert list(stream_records(path)) == list(read_records(path))


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", lines(CHATS)), ("a.json", json.dumps(CHATS))])
def test_a_chat_a_line_needs_no_key(folder: Path, name: str, text: str) -> None:
    assert [said(c) for c in every(opened(str(write(folder / name, text))))] == [("a?", "b"), ("c?", "d")]


def test_a_file_of_one_record_is_read(folder: Path) -> None:
    path = write(folder / "one.json", json.dumps({"image": "0.png", "conversations": CHATS[0]}, indent=1))
    assert [said(conversation) for conversation in every(opened(str(path)))] == [("a?", "b")]


def test_the_setting_names_the_records_among_several_lists(folder: Path) -> None:
    path = write(folder / "a.json", json.dumps({"images": [{"id": 1}], "annotations": ROWS}))
    with pytest.raises(RecordError, match="records: data") as caught:
        opened(str(path))
    assert caught.value.code == "json.form"
    assert len(opened(str(path), records="annotations")) == 2
    with pytest.raises(ConfigError, match="images, annotations"):
        opened(str(path), records="rows")
    with pytest.raises(ConfigError, match="records is rows"):
        opened(str(write(folder / "b.jsonl", lines())), records="rows")


def test_what_all_records_are_told_is_not_read_past(folder: Path) -> None:
    path = write(folder / "a.json", json.dumps({"system": "Be brief.", "data": ROWS}))
    with pytest.raises(RecordError, match="system"):
        opened(str(path))


def test_cells_are_text_and_empty_ones_absent(folder: Path) -> None:
    rows = [{"question": 'a "b",\nc?', "answer": "007", "hint": ""}, {"question": "N/A", "answer": "None", "hint": "x"}]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        records = read_records(write(folder / name, "\ufeff" + table(delimiter, rows)))
        assert [dict(record.fields) for record in records] == [
            {"question": 'a "b",\nc?', "answer": "007", "hint": None},
            {"question": "N/A", "answer": "None", "hint": "x"},
        ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("question,answer\na?\n", "1 cells"),
        ("question,answer\na?,b,c\n", "3 cells"),
        ("a,a\n1,2\n", "two columns"),
        ("", "empty"),
        ("question\n", "no records"),
        ('question\n"a?\n', "no table"),
    ],
)
def test_a_broken_table_is_refused(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(RecordError, match=problem):
        read_records(write(folder / "a.csv", text))


def test_a_table_may_hold_pictures_and_name_those_of_other_rows(folder: Path) -> None:
    picture = (folder / "0.png").read_bytes()
    rows = [
        {
            "index": 5,
            "image": base64.b64encode(picture).decode(),
            "question": "Which?",
            "A": "x",
            "B": "y",
            "answer": "B",
        },
        {"index": 6, "image": 5, "question": "And?", "A": "v", "B": "w", "answer": "A"},
    ]
    path = write(folder / "mm.tsv", table("\t", rows))
    source = SourceSettings(path=str(path))
    data = open_source(source, prompt="{question}\n{choices}", system=None, requires_answer=True, check_images=True)
    assert isinstance(data, ConversationDataset)
    assert [said(conversation) for conversation in every(data)] == [
        ("Which?\nA. x\nB. y", "B"),
        ("And?\nA. v\nB. w", "A"),
    ]
    assert [conversation.images[0].data for conversation in every(data)] == [picture, picture]
    assert [conversation.choices for conversation in every(data)] == [("x", "y"), ("v", "w")]
    assert list(data.findings.lines()) == []


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_an_image_folder_is_read_by_its_metadata(folder: Path, name: str) -> None:
    rows = [{"file_name": "0.png", "text": "red"}, {"file_name": "1.png", "text": "blue"}]
    write(folder / name, table(",", rows) if name.endswith("csv") else lines(rows))
    for path in (folder, folder / name):
        data = opened(str(path))
        assert [(c.turns[0].text, c.turns[1].text) for c in every(data)] == [("", "red"), ("", "blue")]
        assert [c.images[0].path for c in every(data)] == [folder / "0.png", folder / "1.png"]
    asked = open_source(
        SourceSettings(path=str(folder)), prompt="What?", system=None, requires_answer=True, check_images=True
    )
    assert isinstance(asked, ConversationDataset)
    assert said(asked[1]) == ("What?", "blue")


def test_the_splits_of_an_image_folder(folder: Path) -> None:
    for split in ("train", "test"):
        write(folder / split / "metadata.jsonl", lines([{"file_name": "0.png", "text": split}]))
        tiny_models.picture(0).save(folder / split / "0.png")
        assert [c.turns[1].text for c in every(opened(str(folder), split=split))] == [split]


@pytest.mark.parametrize("listed", [True, False])
def test_several_files_follow_one_another(folder: Path, listed: bool) -> None:
    for name, row in zip(("b/a.json", "b/b.json"), ROWS, strict=True):
        write(folder / name, json.dumps([{**row, "image": f"../{row['image']}"}]))
    files = [str(folder / "b" / "a.json"), str(folder / "b" / "b.json")]
    data = opened(
        files if listed else str(folder / "b" / "*.json"),
        image_root=str(folder / "b"),
        train=False,
        columns={"picture": "image"},
    )
    assert [said(conversation) for conversation in every(data)] == [("a?", "b"), ("c?", "d")]
    assert len({conversation.id for conversation in every(data)}) == 2
    assert [str(conversation.file) for conversation in every(data)] == files
    assert [conversation.record for conversation in every(data)] == ["0", "0"]


def test_a_list_mixes_kinds_of_files(folder: Path) -> None:
    paths = [str(write(folder / name, TEXTS[name])) for name in ("a.csv", "a.jsonl.gz", "ids.json")]
    data = opened(paths)
    assert [said(c) for c in every(data)] == [("a?", "b"), ("c?", "d")] * 3
    assert len({c.id for c in every(data)}) == 6
    assert [said(c) for c in every(opened(paths, limit=3))] == [("a?", "b"), ("c?", "d"), ("a?", "b")]
    assert [r.fields["question"] for r in stream_records(paths, limit=5)] == ["a?", "c?", "a?", "c?", "a?"]
    assert [r.fields["answer"] for r in read_records(paths)[1:4]] == ["d", "b", "d"]
    assert read_records(paths)[-1].fields["answer"] == "d"
    with pytest.raises(ConfigError, match="empty list"):
        opened([])


def test_a_folder_of_split_files(folder: Path) -> None:
    for split in ("train", "val"):
        write(folder / f"{split}.jsonl", lines([{**ROWS[0], "answer": split}]))
    assert said(opened(str(folder), split="val")[0]) == ("a?", "val")


def test_texts_further_down_are_a_folders_records_and_root_their_images(folder: Path) -> None:
    for split in ("train", "test"):
        write(folder / "data" / split / "a.jsonl", lines([{**ROWS[0], "answer": split}]))
        tiny_models.picture(0).save(folder / "data" / split / "0.png")
    write(folder / ".cache" / "train" / "b.jsonl", "no data")
    for split in ("train", "test"):
        (found,) = every(opened(str(folder), split=split))
        assert said(found) == ("a?", split)
        assert found.images[0].path == folder / "data" / split / "0.png"


@pytest.mark.parametrize(
    "names",
    [
        ("a.parquet", "extra.jsonl"),
        ("a.parquet", "sub/extra.csv"),
        ("images.tar", "data.jsonl"),
        ("a.parquet", "b.arrow"),
        ("metadata.csv", "metadata.jsonl"),
        ("metadata.jsonl", "my-trainset.json"),
        ("train/metadata.jsonl", "train.parquet"),
        ("a.jsonl", "sub/b.jsonl"),
        ("train.jsonl", "train/more.jsonl"),
        ("sub/a.json", "sub/b.jsonl"),
    ],
    ids=str,
)
def test_no_file_of_a_folder_is_read_past(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(folder / name, lines())
    for read in (read_records, lambda path: next(stream_records(path))):
        with pytest.raises(RecordError, match="name one, or a list of them") as caught:
            read(folder)
        assert caught.value.code == "records.format"
        assert all(name in caught.value.problem for name in names)


def test_what_is_known_to_be_no_data_may_stand_beside_it(folder: Path) -> None:
    write(folder / "data" / "a.jsonl", lines())
    for name in ("dataset_info.json", "config.json", "curation.json", "README.md", "images.tar.gz", ".hidden.csv"):
        write(folder / name, "{}")
    assert [said(c) for c in every(opened(str(folder), image_root=str(folder)))] == [("a?", "b"), ("c?", "d")]


def test_the_split_chooses_between_kinds_too(folder: Path) -> None:
    write(folder / "train.jsonl", lines())
    write(folder / "test.csv", table(",", ROWS[:1]))
    assert len(every(opened(str(folder)))) == 2
    assert len(every(opened(str(folder), split="test"))) == 1


def test_the_pair_of_vqa_files(folder: Path) -> None:
    (folder / "train2014").mkdir()
    tiny_models.picture(0).save(folder / "train2014" / "COCO_train2014_000000000042.jpg")
    about = {"info": {}, "data_subtype": "train2014", "license": {"name": "x"}}
    asked = [{"image_id": 42, "question": "How many?", "question_id": 420 + k} for k in range(2)]
    answers = [{"answer": word, "answer_confidence": "yes", "answer_id": k} for k, word in enumerate(("2", "two", "2"))]
    known = [
        {**{k: row[k] for k in ("image_id", "question_id")}, "question_type": "how", "answer_type": "number",
         "answers": answers, "multiple_choice_answer": "2"}
        for row in reversed(asked)
    ]  # fmt: skip
    questions = write(folder / "questions.json", json.dumps({**about, "questions": asked}))
    annotations = write(folder / "annotations.json", json.dumps({**about, "annotations": known}))
    data = opened(str(questions), annotations=str(annotations))
    assert [(c.id, *said(c), c.references) for c in every(data)] == [
        ("420", "How many?", "2", ("2", "two", "2")),
        ("421", "How many?", "2", ("2", "two", "2")),
    ]
    assert data[0].images[0].path == folder / "train2014" / "COCO_train2014_000000000042.jpg"
    assert list(data.findings.lines()) == []
    write(annotations, json.dumps({**about, "annotations": known[:1]}))
    with pytest.raises(RecordError, match="420 is not in"):
        opened(str(questions), annotations=str(annotations))


def test_a_pair_whose_images_have_no_names_is_refused_until_they_are_named(folder: Path) -> None:
    asked, known = {"image_id": 1, "question": "a?", "question_id": 7}, {"question_id": 7, "answers": [{"answer": "b"}]}
    questions = write(folder / "q.json", json.dumps({"questions": [asked]}))
    annotations = write(folder / "a.json", json.dumps({"annotations": [known]}))
    with pytest.raises(RecordError, match="image_name") as caught:
        opened(str(questions), annotations=str(annotations))
    assert caught.value.code == "conversation.image_name"
    named = opened(str(questions), annotations=str(annotations), image_name="{image_id}.png")
    assert named[0].images[0].path == folder / "1.png"
    for wrong in ("{image_id", "{image_id!r}", "{}", "{image_id:>9}"):
        with pytest.raises(ConfigError, match="image_name"):
            opened(str(questions), annotations=str(annotations), image_name=wrong)


def shard(path: Path, samples: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_shards(folder: Path) -> None:
    for k in range(2):
        picture = (folder / f"{k}.png").read_bytes()
        talk = {"conversations": CHATS[k], "image": f"{k}.png"}
        shard(folder / f"{k}.tar", {f"s{k}.png": picture, f"s{k}.json": json.dumps(talk).encode()})
    for records in (read_records(folder / "*.tar"), list(stream_records(folder / "*.tar"))):
        found = [to_conversation(record, requires_answer=True) for record in records]
        assert [(c.id, *said(c)) for c in found] == [("s0", "a?", "b"), ("s1", "c?", "d")]
        assert [c.images[0].data for c in found] == [(folder / f"{k}.png").read_bytes() for k in range(2)]
        assert [c.notes for c in found] == [(), ()]


@pytest.mark.parametrize(
    "order",
    [
        ["topleft.png", "left.png"],
        ["10.png", "0.png"],
        ["b.left.png", "left.png"],
        ["s1.b.PNG", "s1.a.PNG"],
        ["pictures/s1.left.png", "pictures/s1.png"],
        ["pictures\\old.left.png", "pictures\\old.a.png"],
    ],
    ids=str,
)
def test_a_sample_of_a_shard_shows_its_pictures_in_the_order_that_it_lists(folder: Path, order: list[str]) -> None:
    names = [name.replace("pictures/", "").replace("pictures\\old.", "") for name in order]
    files = {name if name.startswith("s1.") else f"s1.{name}": name.encode() for name in reversed(names)}
    held = {"images": order, "question": "Which?", "answer": "one"}
    path = shard(folder / "a.tar", files | {"s1.json": json.dumps(held).encode()})
    for records in (read_records(path), list(stream_records(path))):
        found = to_conversation(records[0], requires_answer=True)
        assert [image.data for image in found.images] == [name.encode() for name in names]


def test_webdataset_captions(folder: Path) -> None:
    shard(folder / "a.tar", {"x.png": (folder / "0.png").read_bytes(), "x.txt": b"a box"})
    (record,) = read_records(folder / "a.tar")
    assert said(to_conversation(record, requires_answer=True)) == ("", "a box")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13\n"


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.csv", "p.parquet", "p.tar"])
def test_a_git_lfs_pointer_is_called_one(folder: Path, name: str) -> None:
    write(folder / name, POINTER)
    for read in (read_records, lambda path: next(stream_records(path))):
        with pytest.raises(RecordError, match="git lfs pull") as caught:
            read(folder / name)
        assert caught.value.code == "records.lfs_pointer"
    write(folder / "0.png", POINTER)
    with pytest.raises(RecordError, match=r"0\.png: a Git LFS pointer"):
        opened(str(write(folder / "a.json", json.dumps(ROWS))))


@pytest.mark.parametrize(
    "name", ["data/trian", "owner/train.jsno", "owner/train.json", "owner/set.parqet", "owner/a.csv"]
)
def test_a_mistyped_path_is_never_asked_of_the_hub(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets, "load_dataset", asked)
    write(folder / "data" / "train.json", json.dumps(ROWS))
    with pytest.raises(RecordError) as caught:
        read_records(name)
    assert caught.value.code == "records.not_found"


def test_a_mistyped_name_is_answered_with_the_nearest(folder: Path) -> None:
    write(folder / "train.json", json.dumps(ROWS))
    with pytest.raises(RecordError, match=r"there is .*train\.json"):
        read_records(str(folder / "trian.json"))


@pytest.mark.parametrize("cut", [20, 60])
def test_a_packed_file_that_is_cut_short_is_refused(folder: Path, cut: int) -> None:
    path = write(folder / "a.jsonl.gz", lines(ROWS * 50))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RecordError) as caught:
        read_records(path)
    assert caught.value.code == "records.unreadable"


def test_linked_folders_of_pictures(folder: Path) -> None:
    for name in ("coco", "gqa"):
        (folder / "disk" / name).mkdir(parents=True)
        tiny_models.picture(0).save(folder / "disk" / name / "1.png")
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / name).symlink_to(folder / "disk" / name)
    rows = [{**ROWS[0], "image": "coco/1.png"}, {**ROWS[0], "image": "gqa\\1.png"}]
    data = opened(str(write(folder / "data" / "mix.json", json.dumps(rows))))
    assert [c.images[0].path for c in every(data)] == [
        folder / "data" / "coco" / "1.png",
        folder / "data" / "gqa" / "1.png",
    ]
    assert isinstance(data.records[0], Record)
