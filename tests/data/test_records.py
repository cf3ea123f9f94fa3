"""Tests of record sources: every source gives the same records, and every wrong source a reason."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.naming import Naming
from vlm_lit.data.records.record_sequences import ArrowRecords
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Record

N = 5


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def _rows() -> list[dict[str, object]]:
    return [{"id": f"q{i}", "question": f"What is {i}?", "answers": [str(i)], "image": f"{i}.png"} for i in range(N)]


def _png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (i + 1, 2), (i, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _table() -> datasets.Dataset:
    rows = [row | {"image": {"bytes": _png(i), "path": f"{i}.png"}} for i, row in enumerate(_rows())]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "answers": datasets.List(datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


def _write(folder: Path, kind: str) -> Path:
    """The same rows in one of the accepted forms; JSON with image files beside it, the rest with bytes inside."""
    folder.mkdir(exist_ok=True)
    if kind in ("json", "jsonl"):
        for i in range(N):
            (folder / f"{i}.png").write_bytes(_png(i))
        lines = [json.dumps(row) for row in _rows()]
        path = folder / f"data.{kind}"
        path.write_text("\n".join(lines) if kind == "jsonl" else f"[{','.join(lines)}]")
        return path
    if kind == "parquet":
        _table().to_parquet(folder / "data.parquet")
        return folder / "data.parquet"
    if kind == "parquet folder":
        for part, start in enumerate((0, 3)):
            _table().select(range(start, min(start + 3, N))).to_parquet(folder / f"train-0000{part}-of-00002.parquet")
        _table().select([0]).to_parquet(folder / "test-00000-of-00001.parquet")
        return folder
    if kind == "parquet pattern":
        return _write(folder, "parquet folder") / "train-*.parquet"
    if kind == "saved splits":
        datasets.DatasetDict({"train": _table(), "test": _table().select([1])}).save_to_disk(folder / "saved")
        return folder / "saved"
    _table().save_to_disk(folder / "saved")
    return next((folder / "saved").glob("*.arrow")) if kind == "arrow" else folder / "saved"


def charts(folder: Path, kind: str) -> Path:
    """Four questions in ChartQA's columns and features, the last two of no known class; labels inside lists too."""
    shape = datasets.ClassLabel(names=["bar", "line"])
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "query": datasets.Value("string"),
            "label": datasets.List(datasets.Value("string")),
            "human_or_machine": datasets.ClassLabel(names=["human", "machine"]),
            "tags": datasets.List(shape),
            "parts": datasets.List({"kind": shape, "n": datasets.Value("int64")}),
        }
    )
    same = {"image": {"bytes": _png(1), "path": None}, "query": "How many?", "label": ["14"]}
    classes: list[dict[str, object]] = [{"human_or_machine": k, "tags": [], "parts": None} for k in (0, 1, -1, None)]
    classes[0] |= {"tags": [0, 1], "parts": [{"kind": 1, "n": 1}]}
    table = datasets.Dataset.from_list([same | row for row in classes], features=features)
    if kind == "parquet":
        table.to_parquet(folder / "charts.parquet")
        return folder / "charts.parquet"
    saved = datasets.DatasetDict({"train": table}) if kind == "saved splits" else table
    saved.save_to_disk(folder / "charts")
    return next((folder / "charts").glob("*.arrow")) if kind == "arrow" else folder / "charts"


KINDS = ["json", "jsonl", "parquet", "parquet folder", "parquet pattern", "saved", "saved splits", "arrow"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_text", [True, False], ids=["str", "Path"])
def test_every_source_gives_the_same_records(tmp_path: Path, kind: str, as_text: bool) -> None:
    path = _write(tmp_path / "set", kind)
    records = read_records(str(path) if as_text else path)
    assert len(records) == N
    for index, (record, row) in enumerate(zip(records, _rows(), strict=True)):
        assert record.index == index
        assert {key: value for key, value in record.fields.items() if key != "image"} == {
            key: value for key, value in row.items() if key != "image"
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_what_reading_gives(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "set", kind)
    assert list(stream_records(path)) == list(read_records(path))
    assert [record.index for record in stream_records(path, limit=2)] == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_leads_to_the_same_pixels(tmp_path: Path, kind: str) -> None:
    for index, record in enumerate(read_records(_write(tmp_path / "set", kind))):
        (image,) = load_images(to_conversation(record, requires_answer=True))
        assert (image.size, image.getpixel((0, 0))) == ((index + 1, 2), (index, 0, 0))


@pytest.mark.parametrize("kind", ["parquet", "saved", "arrow"])
def test_no_pixel_is_decoded_while_reading(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "set", kind)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was opened"))
    for record in [*read_records(path), *stream_records(path)]:
        image = record.fields["image"]
        assert isinstance(image, dict)
        assert image["bytes"].startswith(b"\x89PNG")


def test_nested_images_stay_encoded(tmp_path: Path) -> None:
    part = {"type": datasets.Value("string"), "text": datasets.Value("string"), "image": datasets.Image()}
    features = datasets.Features({"messages": [{"role": datasets.Value("string"), "content": [part]}]})
    content = [
        {"type": "image", "text": None, "image": {"bytes": _png(4), "path": None}},
        {"type": "text", "text": "What?", "image": None},
    ]
    row = {"messages": [{"role": "user", "content": content}]}
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "a.parquet")
    for records in (read_records(tmp_path / "a.parquet"), list(stream_records(tmp_path / "a.parquet"))):
        conversation = to_conversation(records[0], requires_answer=False)
        assert [image.size for image in load_images(conversation)] == [(5, 2)]


def test_an_arrow_path_may_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(_png(0))
    (tmp_path / "set").mkdir()
    row = {"question": "What?", "answer": "x", "image": {"bytes": None, "path": str(tmp_path / "secret.png")}}
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "set" / "a.parquet")
    with pytest.raises(RecordError) as caught:
        to_conversation(read_records(tmp_path / "set" / "a.parquet")[0], requires_answer=True)
    assert caught.value.code == "path.outside_root"


@pytest.mark.parametrize("kind", ["parquet", "saved", "saved splits", "arrow"])
def test_class_labels_are_given_by_name(tmp_path: Path, kind: str) -> None:
    path = charts(tmp_path, kind)
    for records in (read_records(path), list(stream_records(path))):
        assert [record.fields["human_or_machine"] for record in records] == ["human", "machine", None, None]
        assert records[0].fields["tags"] == ["bar", "line"]
        assert records[0].fields["parts"] == [{"kind": "line", "n": 1}]
        assert (records[1].fields["tags"], records[1].fields["parts"]) == ([], None)
        assert records[0].fields["label"] == ["14"]


def test_class_labels_lead_to_groups_and_answers(tmp_path: Path) -> None:
    columns = {"question": "query", "answers": "label"}
    record = read_records(charts(tmp_path, "parquet"), columns=columns)[1]
    conversation = to_conversation(record, requires_answer=True, group_fields=["human_or_machine"])
    assert conversation.groups == {"human_or_machine": "machine"}
    assert conversation.references == ("14",)
    (record, *_) = read_records(charts(tmp_path, "parquet"), columns={"answer": "human_or_machine", "": "label"})
    conversation = to_conversation(record, prompt="Who asked {query}", requires_answer=True)
    assert conversation.references == ("human",)


def test_class_labels_of_the_hub_are_given_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = datasets.Dataset.from_parquet(str(charts(tmp_path, "parquet")))
    for answer, read in ((table, read_records), (table.to_iterable_dataset(), stream_records)):
        _hub(monkeypatch, answer)
        records = list(read("owner/name"))
        assert [record.fields["human_or_machine"] for record in records] == ["human", "machine", None, None]


def test_records_with_class_labels_can_be_taken_to_a_worker(tmp_path: Path) -> None:
    records = read_records(charts(tmp_path, "saved"))
    assert pickle.loads(pickle.dumps(records))[0].fields["human_or_machine"] == "human"


def test_a_class_without_a_name_is_refused() -> None:
    table = datasets.Dataset.from_list([{"kind": 7}])
    # The names came from elsewhere than the values, as in a file whose metadata was edited.
    table.info.features = datasets.Features({"kind": datasets.ClassLabel(names=["bar", "line"])})
    with pytest.raises(RecordError, match=r"class 7 .*bar, line") as caught:
        ArrowRecords(table, range(1), Naming(file="set", image_root=None, columns={}))[0]
    assert (caught.value.code, caught.value.record) == ("records.class_label", "0")


def test_arrow_records_are_a_sequence_that_workers_can_take(tmp_path: Path) -> None:
    records = read_records(_write(tmp_path / "set", "saved"), limit=4)
    assert isinstance(records, ArrowRecords)
    assert len(records) == 4
    assert records[-1].fields["id"] == "q3"
    assert [record.index for record in records[1:3]] == [1, 2]
    assert pickle.loads(pickle.dumps(records))[2] == records[2]
    with pytest.raises(IndexError):
        records[4]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_columns_are_renamed(tmp_path: Path, kind: str) -> None:
    columns = {"query": "question", "answer": "id", "name": "id"}
    for record in read_records(_write(tmp_path / "set", kind), columns=columns):
        assert set(record.fields) == {"query", "answer", "name", "answers", "image"}
        assert record.fields["answer"] == record.fields["name"] == f"q{record.index}"


def test_image_root_is_the_files_folder_unless_set(tmp_path: Path) -> None:
    path = _write(tmp_path / "set", "json")
    assert read_records(path)[0].image_root == tmp_path / "set"
    assert read_records(path, image_root=tmp_path)[0].image_root == tmp_path
    assert read_records(path)[0].file == path


def test_a_split_is_chosen(tmp_path: Path) -> None:
    assert len(read_records(_write(tmp_path / "a", "saved splits"), split="test")) == 1
    assert len(read_records(_write(tmp_path / "b", "parquet folder"), split="test")) == 1
    assert len(list(stream_records(tmp_path / "b", split="test"))) == 1


def _hub(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple[tuple[object, ...], dict[str, object]]]:
    calls = []

    def load_dataset(*args: object, **kwargs: object) -> object:
        calls.append((args, kwargs))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_the_hub_is_asked_for_a_revision_and_never_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _hub(monkeypatch, _table())
    records = read_records("owner/name", name="config", split="validation", revision="abc")
    assert calls == [(("owner/name", "config"), {"split": "validation", "revision": "abc"})]
    assert records[0].file == "owner/name"
    assert load_images(to_conversation(records[2], requires_answer=True))[0].size == (3, 2)


def test_the_hub_can_be_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _hub(monkeypatch, _table().to_iterable_dataset())
    records = list(stream_records("owner/name", revision="abc", limit=3))
    assert calls == [(("owner/name", None), {"split": "train", "revision": "abc", "streaming": True})]
    assert [record.index for record in records] == [0, 1, 2]
    assert load_images(to_conversation(records[2], requires_answer=True))[0].size == (3, 2)


@pytest.mark.parametrize(
    "error", [ConnectionError("no network"), datasets.exceptions.DatasetNotFoundError("gone"), ValueError("no split")]
)
def test_what_the_hub_answers_is_said_in_the_users_words(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    _hub(monkeypatch, error)
    for read in (read_records, lambda source: next(stream_records(source))):
        with pytest.raises(RecordError, match=str(error)) as caught:
            read("owner/name")
        assert caught.value.code == "records.hub"


def test_a_programs_own_mistake_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(monkeypatch, TypeError("a bug"))
    with pytest.raises(TypeError, match="a bug"):
        read_records("owner/name")


BAD_SOURCES = {
    "missing json": ("data/train.json", "records.not_found"),
    "missing, absolute": ("/nowhere/at/all", "records.not_found"),
    "missing, dot": ("./train", "records.not_found"),
    "missing, home": ("~/nowhere/at-all", "records.not_found"),
    "missing, one word": ("chartqa", "records.not_found"),
    "missing, deep": ("a/b/c", "records.not_found"),
    "missing, backslash": ("data\\train", "records.not_found"),
    "missing parquet like a hub id": ("data/train.parquet", "records.not_found"),
    "URL": ("https://example.org/train.json", "records.not_found"),
    "empty name": ("", "records.not_found"),
    "zero character": ("a\0/b", "records.not_found"),
    "pattern without a match": ("*.nothing", "records.not_found"),
}


@pytest.mark.parametrize(("source", "code"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_a_source_that_is_not_there_is_never_asked_of_the_hub(
    source: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = _hub(monkeypatch, AssertionError("the hub was asked"))
    for read in (read_records, stream_records):
        with pytest.raises(RecordError) as caught:
            read(source)
        assert caught.value.code == code
    assert not calls


def _file(folder: Path, name: str, data: bytes = b"x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_unknown_formats_are_refused_with_the_accepted_ones(tmp_path: Path) -> None:
    _file(tmp_path, "f/readme.md")
    _file(tmp_path, "g/a.json", b"[]")
    _file(tmp_path, "g/b.jsonl", b"{}")
    _file(tmp_path, "h/a.json", b"[]")
    _file(tmp_path, "h/a.parquet", b"")
    sources = _file(tmp_path, "data.xlsx"), _file(tmp_path, "a.parquet.gz"), tmp_path / "f", tmp_path / "g"
    for source in (*sources, tmp_path / "h" / "*"):
        with pytest.raises(RecordError, match="parquet") as caught:
            read_records(source)
        assert caught.value.code == "records.format"


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "saved/state.json"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = _file(tmp_path, name)
    source = path.parent if name.startswith("saved") else path
    for read in (read_records, lambda where: next(stream_records(where))):
        with pytest.raises(RecordError) as caught:
            read(source)
        assert caught.value.code == "records.unreadable"


@pytest.mark.parametrize("read", [read_records, lambda where: list(stream_records(where))])
def test_a_list_without_records_is_refused(tmp_path: Path, read: Any) -> None:
    with pytest.raises(RecordError) as caught:
        read(_file(tmp_path, "a.json", b"[]"))
    assert caught.value.code == "records.none"


def test_a_missing_split_names_those_there(tmp_path: Path) -> None:
    for kind in ("saved splits", "parquet folder"):
        with pytest.raises(RecordError, match=r"test, train|train, test") as caught:
            read_records(_write(tmp_path / kind, kind), split="val")
        assert caught.value.code == "records.split"


def test_a_missing_column_names_those_there(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"'answers'.*columns") as caught:
        read_records(_write(tmp_path / "set", "json"), columns={"question": "query"})
    assert (caught.value.code, caught.value.record) == ("records.missing_column", "0")


def test_json_errors_come_through(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        read_records(_file(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": NaN}'))
    assert caught.value.code == "json.not_a_number"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ConfigError, match="limit"):
        read_records(_write(tmp_path / "set", "json"), limit=limit)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    program = "import sys, vlm_lit.data.records.records, vlm_lit.data.conversations.conversations; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "datasets", "PIL", "numpy"} & set(loaded)


def test_records_are_records(tmp_path: Path) -> None:
    assert all(isinstance(record, Record) for record in read_records(_write(tmp_path / "set", "jsonl")))
