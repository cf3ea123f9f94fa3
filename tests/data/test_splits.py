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


@pytest.mark.parametrize("split", ["train[:10", "train+test", "train[1]", "", "train[:x]", "train[1:3%]"])
def test_a_split_that_is_not_understood_is_refused(ten: dict[str, Path], split: str) -> None:
    for path in ten.values():
        with pytest.raises(RecordError, match="not understood") as caught:
            read_records(path, split=split)
        assert caught.value.code == "records.split"


def test_a_stream_is_not_sliced(ten: dict[str, Path]) -> None:
    with pytest.raises(RecordError, match=r"train\[:80%\]"):
        stream_records(ten["a.parquet"], split="train[:80%]")
