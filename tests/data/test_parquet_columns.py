"""Tests of several Parquet files as one table: what fits is read, and what a cast would change is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.errors import RecordError

WORDS: dict[str, object] = {"question": ["What?"] * 2, "answer": ["007", "1"]}
READERS = (read_records, lambda path: list(stream_records(path)))


def written(folder: Path, *tables: dict[str, object]) -> list[str]:
    paths = [folder / f"{k}.parquet" for k in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(pa.table(table), path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("read", READERS, ids=["table", "stream"])
@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ({**WORDS, "answer": [1, 2]}, "the column 'answer' holds text, and int64 in 0.parquet"),
        ({**WORDS, "answer": pa.nulls(2)}, "the column 'answer' holds text, and nothing in 0.parquet"),
        ({"question": ["What?"]}, "it has a column 'answer', which 0.parquet lacks"),
    ],
)
def test_columns_that_do_not_fit_the_first_file_are_refused(
    first: dict[str, object], problem: str, read: Callable[[object], object], tmp_path: Path
) -> None:
    paths = written(tmp_path, first, WORDS)
    with pytest.raises(RecordError, match=rf"1\.parquet: {problem}\. Write path as a list") as found:
        read(tmp_path)
    assert found.value.code == "records.columns"
    assert [record.fields.get("answer") for record in read_records(paths)][-2:] == ["007", "1"]


@pytest.mark.parametrize("read", READERS, ids=["table", "stream"])
@pytest.mark.parametrize(
    "second",
    [
        {"answer": ["007", "1"], "question": ["What?"] * 2},
        {**WORDS, "answer": pa.array(["007", "1"]).dictionary_encode()},
        {**WORDS, "answer": pa.array(["007", "1"], pa.large_string())},
    ],
    ids=["order", "dictionary", "large"],
)
def test_columns_that_fit_are_read(
    second: dict[str, object], read: Callable[[object], list[object]], tmp_path: Path
) -> None:
    written(tmp_path, WORDS, second, {"question": ["Why?"]})
    answers = [record.fields["answer"] for record in read(tmp_path)]  # type: ignore[attr-defined]
    assert answers == ["007", "1", "007", "1", None]
