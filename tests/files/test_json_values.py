"""Tests of `read_json`: one whole value, strictly read, with the place and the remedy of what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vlm_lit.errors import RecordError
from vlm_lit.files.strict_json import parse_json, read_json

BROKEN = {
    "cut": (b'{"a": 1,\n "b"', r"a\.json: the text ends too early \(line 2, column 5\)\. Copy", "json.truncated"),
    "empty": (b"", r"a\.json: the text ends too early \(line 1, column 1\)", "json.truncated"),
    "no JSON": (b'{"a": red}', r"a\.json: not JSON: Expecting value \(line 1, column 7\)", "json.syntax"),
    "a key twice": (b'{"a": 1, "a": 2}', r"a\.json: the key 'a' stands twice in one object", "json.duplicate_key"),
    "more after it": (b"{}\n{}", r"a\.json: more text after the value \(line 1, column 3\)", "json.syntax"),
    "Latin-1": (b'{\n"a": "\xe9"}', r"a\.json: byte 8 on line 2 \(0xe9\) is not UTF-8", "json.encoding"),
    "UTF-16": ("{}".encode("utf-16"), r"a\.json: the file is UTF-16", "json.utf16"),
    "too deep": (b"[" * 100_000, r"a\.json: nested deeper than 64 levels", "json.too_deep"),
}


@pytest.mark.parametrize(("content", "says", "code"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("any_value", [False, True])
def test_what_is_wrong_is_said_with_its_place(
    content: bytes, says: str, code: str, any_value: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=says) as refused:
        read_json(path, remedy="Copy it again.", any_value=any_value)
    assert refused.value.code == code
    assert str(refused.value).endswith("Copy it again.")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"a\.json: cannot be read \(No such file .*\. Correct the path"):
        read_json(tmp_path / "a.json")


VALUES = {"NaN": b"[NaN]", "the zero character": rb'["\u0000"]', "half a pair": rb'["\ud800"]'}


@pytest.mark.parametrize("content", VALUES.values(), ids=VALUES.keys())
def test_values_that_only_a_run_may_write(content: bytes) -> None:
    with pytest.raises(RecordError):
        parse_json(content, "a line")
    found = parse_json(content, "a line", any_value=True)
    assert isinstance(found, list)
    assert found in (["\0"], ["\ud800"]) or math.isnan(found[0])


def test_objects_can_become_something_smaller() -> None:
    assert parse_json(b'[{"a": {"b": 1}}]', "a line", of_object=lambda fields: next(iter(fields.values()))) == [1]
    with pytest.raises(RecordError, match="stands twice"):
        parse_json(b'{"a": 1, "a": 1}', "a line", of_object=lambda _: None)
