"""Tests of large JSON files: a row that is parsed when asked for is the row that reading all of them gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_lit.data.records import json_rows, records
from vlm_lit.data.records.records import read_records
from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

ROWS = [{"question": f"wie groß ist {n}? 😀", "answer": "ä" * n, "nested": [{"a": n, "b": None}]} for n in range(7)]
LINES = [json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(ROWS)]
CHAT = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
TEXTS = {
    "a.jsonl": "\n".join(LINES),
    "blank.jsonl": "\n\n" + " \r\n\t".join(LINES) + "\r\n\n",
    "mark.jsonl": "\ufeff" + "\n".join(LINES) + "\n",
    "chats.jsonl": f"{CHAT}\n{CHAT}\n",
    "a.json": f"[{', '.join(LINES)}]",
    "lines.json": "\ufeff [\n" + " ,\n\n".join(LINES) + "\n]\n",
    "chats.json": f"[{CHAT}, {CHAT}]",
}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every file counts as large, and the cache is the test's own."""
    monkeypatch.setattr(records, "LARGE", 0)
    monkeypatch.setenv("VLM_LIT_CACHE", str(tmp_path / "cache"))


def read(path: Path, **options: object) -> list[Record]:
    return list(read_records(path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TEXTS)
def test_the_rows_are_those_of_the_whole_file(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name], encoding="utf-8", newline="")
    expected = read(path)
    part = read(path, split="train[1:2]")
    request.getfixturevalue("large")
    assert not isinstance(read_records(path), list)
    assert read(path) == expected
    assert read(path, split="train[1:2]") == part
    monkeypatch.setattr(json_rows, "parse_line", None)  # what was kept of the first time is enough
    monkeypatch.setattr(json_rows, "_list_spans", None)
    assert read(path) == expected


def test_several_files_follow_one_another(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for k in range(2):
        (tmp_path / f"part{k}.jsonl").write_text("\n".join(LINES[k::2]), encoding="utf-8")
    pattern = tmp_path / "part*.jsonl"
    expected = read(pattern)
    request.getfixturevalue("large")
    assert read(pattern) == expected
    assert [record.part for record in expected].count("part1.jsonl:") == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": '),
        ("a.jsonl", '{"a": 1}\n{"a": NaN}\n'),
        ("a.jsonl", "\n"),
        ("a.json", '[{"a": 1}, {"a": 1, "a": 2}]'),
        ("a.json", '[{"a": 1},]'),
        ("a.json", '[{"a": 1}] x'),
        ("a.json", '[{"a": 1}'),
    ],
)
def test_a_broken_file_is_refused_in_the_same_words(
    name: str, text: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RecordError) as expected:
        read(path)
    request.getfixturevalue("large")
    with pytest.raises(RecordError) as found:
        read(path)
    assert (str(found.value), found.value.code) == (str(expected.value), expected.value.code)


@pytest.mark.usefixtures("large")
def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(LINES), encoding="utf-8")
    assert len(read(path)) == 7
    path.write_text("\n".join(reversed(LINES)), encoding="utf-8")
    assert [record.fields for record in read(path)] == ROWS[::-1]
