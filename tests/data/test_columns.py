"""Tests of columns and configurations: fields within columns, several hub configurations read as one."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Record

TYPES = {"structural": "query", "more": {"deep": "x"}}
ROWS = [{"question": "What?", "types": TYPES, "a.b": "whole"}]


@pytest.fixture(params=["jsonl", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A question with fields within a column."""
    file = tmp_path / f"a.{request.param}"
    if request.param == "jsonl":
        file.write_text(json.dumps(ROWS[0]))
    else:
        datasets.Dataset.from_list(ROWS).to_parquet(str(file))
    return file


def test_a_dot_leads_into_a_column_which_stays(path: Path) -> None:
    columns = {"structural": "types.structural", "deep": "types.more.deep", "dotted": "a.b", "asked": "question"}
    for record in (read_records(path, columns=columns)[0], next(stream_records(path, columns=columns))):
        found = {"structural": "query", "deep": "x", "dotted": "whole", "asked": "What?"}
        assert record.fields == {"types": TYPES, **found}


@pytest.mark.parametrize("theirs", ["types.semantic", "types.structural.deep", "type.structural", "question.", "a"])
def test_a_field_that_is_not_there_is_named(theirs: str, path: Path) -> None:
    with pytest.raises(RecordError, match=f"no column '{theirs}' to use as 'ours'; there are 'question', ") as caught:
        read_records(path, columns={"ours": theirs})[0]
    assert caught.value.code == "records.missing_column"


def test_what_an_empty_column_holds_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "?", "types": null}')
    (record,) = read_records(tmp_path / "a.jsonl", columns={"structural": "types.structural"})
    assert record.fields["structural"] is None


@pytest.fixture
def subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Two configurations of two rows in the place of a hub data set; the names it is asked for."""
    asked: list[str | None] = []
    real = datasets.load_dataset
    for name in ("Art", "Math"):
        rows = datasets.Dataset.from_list([{"id": f"{name}_{i}"} for i in range(2)])
        rows.to_parquet(str(tmp_path / f"{name}.parquet"))

    def load_dataset(hub_id: str, name: str, *, split: str, revision: object, streaming: bool = False) -> object:
        assert (hub_id, revision) == ("MMMU/MMMU", None)
        asked.append(name)
        file = str(tmp_path / f"{name}.parquet")
        return real("parquet", data_files={split: file}, split=split, streaming=streaming)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def ids(records: list[Record]) -> list[object]:
    return [record.fields["id"] for record in records]


def test_configurations_follow_one_another(subjects: list[str | None]) -> None:
    expected = ["Math_0", "Math_1", "Art_0", "Art_1"]
    records = read_records("MMMU/MMMU", split="validation", name=["Math", "Art"])
    assert ids(list(records)) == expected
    assert [record.index for record in records] == [0, 1, 2, 3]
    assert ids(list(stream_records("MMMU/MMMU", split="validation", name=["Math", "Art"]))) == expected
    assert ids(list(read_records("MMMU/MMMU", name=["Art"]))) == ["Art_0", "Art_1"]
    assert subjects == ["Math", "Art", "Math", "Art", "Art"]


def test_no_configuration_at_all_is_refused(subjects: list[str | None]) -> None:
    with pytest.raises(ConfigError, match="name is an empty list"):
        read_records("MMMU/MMMU", name=[])
    assert subjects == []
