"""Tests of strict JSON: every text that a parser would change is refused, with its place and a stable code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlm_lit.errors import RecordError
from vlm_lit.files.strict_json import iter_json_lines, iter_json_list

BAD_LISTS = {
    "empty": (b"", "json.empty"),
    "only white space": (b" \n\t", "json.empty"),
    "one object": (b'{"questions": []}', "json.not_a_list"),
    "one number": (b"3", "json.not_a_list"),
    "not json": (b"question,answer\n1,2\n", "json.not_a_list"),
    "list of lists": (b"[[1]]", "json.not_an_object"),
    "list of strings": (b'["a"]', "json.not_an_object"),
    "cut after a comma": (b'[{"a": 1},', "json.truncated"),
    "cut after an object": (b'[{"a": 1}', "json.truncated"),
    "cut in a string": (b'[{"a": "wor', "json.truncated"),
    "cut in an object": (b'[{"a": 1, ', "json.truncated"),
    "trailing comma": (b'[{"a": 1},]', "json.syntax"),
    "missing comma": (b'[{"a": 1} {"a": 2}]', "json.syntax"),
    "text after the list": (b'[{"a": 1}] x', "json.syntax"),
    "control-Z at the end": (b'[{"a": 1}]\x1a', "json.syntax"),
    "raw line break in a string": (b'[{"a": "x\ny"}]', "json.syntax"),
    "single quotes": (b"[{'a': 1}]", "json.syntax"),
    "duplicate key": (b'[{"a": 1, "a": 2}]', "json.duplicate_key"),
    "duplicate key, nested": (b'[{"t": [{"from": "x", "from": "y"}]}]', "json.duplicate_key"),
    "NaN": (b'[{"a": NaN}]', "json.not_a_number"),
    "Infinity": (b'[{"a": [-Infinity]}]', "json.not_a_number"),
    "float too large": (b'[{"a": 1e400}]', "json.huge_number"),
    "integer of 5000 digits": (b'[{"a": ' + b"9" * 5000 + b"}]", "json.huge_number"),
    "lone surrogate": (rb'[{"a": ["x\ud800y"]}]', "json.lone_surrogate"),
    "lone surrogate in a key": (rb'[{"\udc01": 1}]', "json.lone_surrogate"),
    "zero character": (rb'[{"a": "x\u0000"}]', "json.zero_character"),
    "nested 65 levels": (b'[{"a": ' + b"[" * 64 + b"]" * 64 + b"}]", "json.too_deep"),
    "nested 100000 levels": (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "json.too_deep"),
    "UTF-16 with a mark": ('[{"a": 1}]'.encode("utf-16"), "json.utf16"),
    "UTF-16 without a mark": ('[{"a": 1}]'.encode("utf-16-be"), "json.utf16"),
    "UTF-32": ('[{"a": 1}]'.encode("utf-32"), "json.utf16"),
    "Latin-1": ('[{"a": "é"}]'.encode("latin-1"), "json.encoding"),
}

BAD_LINES = {
    "empty": (b"\n\n", "json.empty"),
    "a list": (b'[\n{"a": 1}\n]', "json.not_an_object"),
    "two objects on a line": (b'{"a": 1} {"a": 2}\n', "json.syntax"),
    "an object over two lines": (b'{"a": 1,\n"b": 2}\n', "json.truncated"),
    "last line cut": (b'{"a": 1}\n{"a": ', "json.truncated"),
    "a number": (b'{"a": 1}\n7\n', "json.not_an_object"),
    "duplicate key": (b'{"a": 1, "a": 1}\n', "json.duplicate_key"),
    "UTF-16": ('{"a": 1}\n'.encode("utf-16"), "json.utf16"),
    "Latin-1": ('{"a": "é"}\n'.encode("latin-1"), "json.encoding"),
}


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "data.json"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("data", "code"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(iter_json_list(_written(tmp_path, data)))
    assert caught.value.code == code
    assert "data.json" in str(caught.value)


@pytest.mark.parametrize(("data", "code"), BAD_LINES.values(), ids=BAD_LINES)
def test_bad_lines_are_refused(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(iter_json_lines(_written(tmp_path, data)))
    assert caught.value.code == code


def test_a_list_error_names_record_line_and_column(tmp_path: Path) -> None:
    path = _written(tmp_path, b'[\n  {"a": 1},\n  {"a": 1 "b": 2}\n]')
    with pytest.raises(RecordError, match=re.escape("record 1 (line 3, column 11)")):
        list(iter_json_list(path))


def test_a_line_error_names_record_line_and_column(tmp_path: Path) -> None:
    path = _written(tmp_path, b'{"a": 1}\n\n{"a": oops}\n')
    with pytest.raises(RecordError, match=re.escape("record 1 (line 3, column 7)")):
        list(iter_json_lines(path))


def test_the_records_before_an_error_are_given_first(tmp_path: Path) -> None:
    rows = iter_json_list(_written(tmp_path, b'[{"a": 1}, {"a": NaN}]'))
    assert next(rows) == {"a": 1}
    with pytest.raises(RecordError):
        next(rows)


GOOD: dict[str, tuple[str, list[object] | None]] = {
    "a list": ('[{"a": 1}, {"a": [true, null, 2.5]}]', [{"a": 1}, {"a": [True, None, 2.5]}]),
    "an empty list": (" [ ] ", []),
    "nested 64 levels": ('[{"a": ' + "[" * 63 + "]" * 63 + "}]", None),
    "many brackets, not deep": ('[{"a": [' + "[]," * 80 + "[]]}]", [{"a": [[]] * 81}]),
    "a whole surrogate pair": (r'[{"a": "\ud83d\ude00"}]', [{"a": "😀"}]),
    "an escaped backslash before u0000": (r'[{"a": "\\u0000"}]', [{"a": r"\u0000"}]),
    "equal keys in two objects": ('[{"a": {"b": 1}, "c": {"b": 1}}]', [{"a": {"b": 1}, "c": {"b": 1}}]),
}


@pytest.mark.parametrize(("text", "rows"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_a_good_list_is_read(tmp_path: Path, text: str, rows: list[object] | None, mark: str) -> None:
    found = list(iter_json_list(_written(tmp_path, (mark + text).encode())))
    assert rows is None or found == rows


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_good_lines_are_read(tmp_path: Path, mark: str) -> None:
    # U+2028 ends a line for str.splitlines, not for JSON.
    path = _written(tmp_path, (mark + '{"a": "x\u2028y"}\r\n\n {"a": 2} ').encode())
    assert list(iter_json_lines(path)) == [{"a": "x\u2028y"}, {"a": 2}]
