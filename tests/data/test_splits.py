"""Tests of splits: a slice of local files means the rows that the hub would give."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.data.records.splits import read_split, rows_of
from vlm_lit.errors import RecordError

ROWS = st.just("") | st.integers(-40, 40).map(str)
SHARES = st.just("") | st.integers(-100, 100).map("{}%".format)


@given(bounds=st.tuples(ROWS, ROWS) | st.tuples(SHARES, SHARES), n=st.integers(1, 30))
def test_slices_mean_what_they_mean_to_datasets(bounds: tuple[str, str], n: int) -> None:
    text = f"train[{bounds[0]}:{bounds[1]}]"
    split = read_split(text)
    assert split is not None
    (theirs,) = datasets.ReadInstruction.from_spec(text).to_absolute({"train": n})
    expected = range(theirs.from_ or 0, n if theirs.to is None else theirs.to)
    if expected:
        assert rows_of(split, n, "set") == expected
    else:
        with pytest.raises(RecordError) as caught:
            rows_of(split, n, "set")
        assert caught.value.code == "records.split"


@pytest.fixture
def ten(tmp_path: Path) -> dict[str, Path]:
    """The same ten rows as JSON, JSONL, Parquet and a folder saved with a train split."""
    rows = [{"n": i} for i in range(10)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = datasets.Dataset.from_list(rows)
    table.to_parquet(tmp_path / "a.parquet")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "saved")
    return {name: tmp_path / name for name in ("a.json", "a.jsonl", "a.parquet", "saved")}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.parquet", "saved"])
def test_every_local_source_can_be_sliced(ten: dict[str, Path], name: str) -> None:
    def numbers(split: str, limit: int | None = None) -> list[object]:
        return [record.fields["n"] for record in read_records(ten[name], split=split, limit=limit)]

    assert numbers("train[:80%]") + numbers("train[80%:90%]") + numbers("train[90%:]") == list(range(10))
    assert numbers("train[-2:]") == [8, 9]
    assert numbers("train[5:]", limit=2) == [5, 6]
    assert [record.index for record in read_records(ten[name], split="train[7:]")] == [7, 8, 9]


def test_a_single_file_is_any_split(ten: dict[str, Path]) -> None:
    assert len(read_records(ten["a.json"], split="val")) == len(read_records(ten["a.parquet"], split="val")) == 10


def _folder(folder: Path, *names: str) -> Path:
    """A folder of text files whose records say their file's name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps([{"n": name}]))
    return folder


def _names(folder: Path, split: str) -> list[object]:
    assert list(stream_records(folder, split=split)) == list(read_records(folder, split=split))
    return [record.fields["n"] for record in read_records(folder, split=split)]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.json", "test.json"),
        ("Train.json", "Test.json"),
        ("TRAIN.json", "VAL.json"),
        ("train2014.json", "val2014.json"),
        ("training.json", "testing.json"),
        ("train1.json", "test1.json"),
        ("trainset.json", "testset.json"),
        ("TrainSet.json", "testQuestions.json"),
        ("my train.json", "my test.json"),
        ("split=train/a.json", "split=test/a.json"),
        ("data/train/a.json", "data/test/a.json"),
        ("data/training/a.json", "data/dev/a.json"),
        ("train-v1.json", "dev-v1.json"),
        ("train_set/train.json", "train_set/test.json"),
        ("train.json", "train2014.json"),  # the name itself is nearer than one with digits
    ],
)
def test_the_files_of_a_split_are_told_by_their_names(tmp_path: Path, train: str, test: str) -> None:
    folder = _folder(tmp_path, train, test)
    assert _names(folder, "train") == [train]
    if "test" in test.lower():
        assert _names(folder, "test") == [test]


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (("validation.json", "train.json"), "val", ["validation.json"]),
        (("a_v1.json", "b_v2.json"), "v1", ["a_v1.json"]),
        (("train2014.json", "train2015.json"), "train2014", ["train2014.json"]),
        (("train1.json", "train2.json"), "train", ["train1.json", "train2.json"]),
        (("v1/train.json", "v2/train.json"), "v1", ["v1/train.json"]),
        (("values.json", "devices.json"), "train", ["devices.json", "values.json"]),
        (("trainqa1.json", "trainqa2.json"), "train", ["trainqa1.json", "trainqa2.json"]),
        (("testimony.json",), "train", ["testimony.json"]),
    ],
    ids=str,
)
def test_other_names_of_splits(tmp_path: Path, names: tuple[str, ...], split: str, found: list[str]) -> None:
    assert _names(_folder(tmp_path, *names), split) == found


@pytest.mark.parametrize(
    ("names", "split", "said"),
    [
        (("val2014.json",), "train", "There are: val"),
        (("Testing.json", "eval.json"), "train", "There are: eval, testing"),
        (("dev.json", "valid.json"), "val", "There are: dev, valid"),
        (("trainqa.json", "testqa.json"), "train", "by testqa.json, trainqa.json"),
        (("data.json", "testqa.json"), "train", "by testqa.json"),
    ],
    ids=str,
)
def test_a_folder_whose_names_do_not_say_the_split_is_refused(
    tmp_path: Path, names: tuple[str, ...], split: str, said: str
) -> None:
    for read in (read_records, lambda *given, **more: next(stream_records(*given, **more))):
        with pytest.raises(RecordError, match=said) as caught:
            read(_folder(tmp_path, *names), split=split)
        assert caught.value.code == "records.split"


@pytest.mark.parametrize("split", ["train[:10", "train+test", "train[1]", "", "train[:x]", "train[1:3%]"])
def test_a_split_that_is_not_understood_is_refused(ten: dict[str, Path], split: str) -> None:
    for path in ten.values():
        with pytest.raises(RecordError, match="not understood") as caught:
            read_records(path, split=split)
        assert caught.value.code == "records.split"


def test_a_stream_is_not_sliced(ten: dict[str, Path]) -> None:
    with pytest.raises(RecordError, match=r"train\[:80%\]"):
        stream_records(ten["a.parquet"], split="train[:80%]")
