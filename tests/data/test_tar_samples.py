"""Tests of samples of WebDataset shards: each is read for itself, and nothing of it is read past."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.support.shards import write_tar
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

PICTURE = b"a picture"


def records_of(path: Path | str) -> list[Record]:
    """A shard's records, which are the same read and streamed."""
    read = list(read_records(path))
    assert list(stream_records(path)) == read
    assert list(stream_records(path, later=True)) == read
    return read


def images_of(record: Record) -> list[bytes | None]:
    return [image.data for image in to_conversation(record, requires_answer=True).images]


def held(**fields: object) -> bytes:
    return json.dumps({"question": "Which?", "answer": "one", **fields}).encode()


def test_a_later_sample_may_have_other_files_and_other_keys(tmp_path: Path) -> None:
    """`datasets` takes what the first five samples have for what all have: a later picture was not shown."""
    files = {f"s{i}.{end}": data for i in range(6) for end, data in (("png", PICTURE), ("json", held(answer=i)))}
    later = {"t0.jpg": PICTURE, "t0.json": held(answer="007", system="Be brief.", score=0.5)}
    records = records_of(write_tar(tmp_path / "a.tar", files | later))
    assert [images_of(record) for record in records] == [[PICTURE]] * 7
    assert records[6].fields == {
        "__url__": str(tmp_path / "a.tar"),
        "question": "Which?",
        "answer": "007",
        "system": "Be brief.",
        "score": 0.5,
        "image": {"bytes": PICTURE, "path": "t0.jpg"},
        "id": "t0",
    }


def test_shards_may_differ(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"s.png": PICTURE, "s.txt": b"a box\n"})
    write_tar(tmp_path / "b.tar", {"t.webp": PICTURE, "t.json": held(), "u.JPG": PICTURE, "u.JSON": held()})
    records = records_of(tmp_path / "*.tar")
    assert [to_conversation(one, requires_answer=True).references for one in records] == [
        ("a box",),
        ("one",),
        ("one",),
    ]
    assert [images_of(record) for record in records] == [[PICTURE]] * 3
    assert [one.fields["id"] for one in read_records(tmp_path / "*.tar", split="train[1:]", limit=1)] == ["t"]


def test_pictures_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"img{i}.png" for i in range(12)]
    files = {f"s.{name}": name.encode() for name in sorted(names)}
    (record,) = records_of(write_tar(tmp_path / "a.tar", files | {"s.json": held()}))
    assert images_of(record) == [name.encode() for name in names]


@pytest.mark.parametrize("key", ["image", "images", "file_name"])
@pytest.mark.parametrize(
    ("named", "shown"),
    [
        (["s.left.png"], ["left"]),
        (["left.png", "right.png", "left.png"], ["left", "right", "left"]),
        (["a.jpg", "b.jpg"], ["left", "right"]),
        ([], ["left", "right"]),
    ],
)
def test_the_pictures_that_a_sample_names_are_shown(
    key: str, named: list[str], shown: list[str], tmp_path: Path
) -> None:
    files = {"s.left.png": b"left", "s.right.png": b"right", "s.json": held(**{key: named})}
    (record,) = records_of(write_tar(tmp_path / "a.tar", files))
    assert images_of(record) == [one.encode() for one in shown]


@pytest.mark.parametrize("named", ["c.jpg", ["left.png", "right.png", "middle.png"]])
def test_a_picture_that_is_not_there_is_refused(named: object, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"s.left.png": b"", "s.right.png": b"", "s.json": held(images=named)})
    with pytest.raises(
        RecordError, match=r"record 0 \(id 's'\): its .json names .*it has left.png, right.png"
    ) as found:
        list(read_records(path))
    assert found.value.code == "conversation.image_count"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("s.json", b'{"question": "a?", "answer": "b", "answer": "c"}', "json.duplicate_key"),
        ("s.json", b'{"question": "a?", "answer": "b", "score": NaN}', "json.not_a_number"),
        ("s.txt", "caf\u00e9".encode("latin-1"), "records.unreadable"),
        ("s.cls", b"cat", "records.unreadable"),
    ],
)
def test_a_file_of_a_sample_is_read_as_strictly_as_one_of_its_own(
    name: str, data: bytes, code: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", {"s.png": PICTURE, name: data})
    with pytest.raises(RecordError, match=rf"a\.tar, record {name}") as found:
        list(read_records(path))
    assert found.value.code == code


def test_packed_words_and_classes_are_read(tmp_path: Path) -> None:
    files = {"s.txt.gz": gzip.compress(b"words"), "s.cls": b"7\n", "s.npy": b"\x93NUMPY"}
    (record,) = records_of(write_tar(tmp_path / "a.tar", files))
    assert [record.fields[key] for key in ("txt.gz", "cls", "npy")] == ["words", 7, b"\x93NUMPY"]


def test_a_sample_in_two_parts_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"s.png": PICTURE, "t.png": PICTURE, "s.txt": b"a", "t.txt": b"b"})
    for read in (read_records, lambda path: list(stream_records(path))):
        with pytest.raises(RecordError, match="do not stand together"):
            read(path)


def test_an_archive_that_goes_on_behind_its_end_is_refused(tmp_path: Path) -> None:
    one = write_tar(tmp_path / "one.tar", {"s.png": PICTURE, "s.txt": b"a"}).read_bytes()
    for k, data in enumerate((one + one, one[:1024] + b"x" * 512 + one[1536:])):  # two by `cat`, and a broken header
        (tmp_path / f"{k}.tar").write_bytes(data)
        with pytest.raises(RecordError, match=r"behind s\.(txt|png) it is damaged, or another archive"):
            read_records(tmp_path / f"{k}.tar")


@pytest.mark.parametrize("name", ["d" * 120 + "/" + "n" * 130, "\u00e9" * 90], ids=["long", "no ASCII"])
def test_long_names_are_found_again(name: str, tmp_path: Path) -> None:
    files = {f"{name}{i}.{end}": f"{end}{i}".encode() for i in range(3) for end in ("png", "txt")}
    records = records_of(write_tar(tmp_path / "a.tar", files))
    assert [record.fields["id"] for record in records] == [f"{name}{i}" for i in range(3)]
    assert [images_of(record) for record in reversed(records)] == [[b"png2"], [b"png1"], [b"png0"]]
