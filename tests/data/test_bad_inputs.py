"""Tests of inputs that cannot be used: each is found as a run finds it, with the reason code that reports count by."""

from __future__ import annotations

import ast
import gzip
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

import vlm_lit
from tests.data.test_json_strict import BAD_LINES, BAD_LISTS
from tests.support.bad_inputs import CONVERSATION, PAIR, QUESTION, Fields, Task, code_of, write_records
from tests.support.bad_pictures import PICTURES, cut, damaged, file_of
from tests.support.bad_records import RECORDS

CODE: Final = re.compile(
    r"(?:annotations|conversation|cvat|ids|image|image_table|json|label_studio|path|preference|processor|question"
    r"|record|records|table|template)\.[a-z_0-9]+"
)
PAGE: Final = Path(vlm_lit.__file__).parent / "data" / "REASONS.md"
GOOD: Final[dict[Task, Fields]] = {"conversations": CONVERSATION, "pairs": PAIR, "questions": QUESTION}


def parquet() -> bytes:
    """A table of 200 questions, its pages packed."""
    held = BytesIO()
    rows = {"question": [f"What is {k}?" for k in range(200)], "answers": [[f"a{k}"] for k in range(200)]}
    pq.write_table(pa.table(rows), held)
    return held.getvalue()


TEXT = b'[{"question": "What?", "answers": ["red"]}]'
FILES: Final[dict[str, tuple[str, Callable[[], bytes], str]]] = {
    "parquet cut": ("data.parquet", lambda: cut(parquet(), 0.6), "records.unreadable"),
    "parquet without its end": ("data.parquet", lambda: parquet()[:-4], "records.unreadable"),
    "parquet of a damaged page": ("data.parquet", lambda: damaged(parquet(), 0.1, b"\xff" * 64), "records.unreadable"),
    "parquet of a damaged footer": ("data.parquet", lambda: damaged(parquet(), 0.9), "records.unreadable"),
    "parquet that is JSON": ("data.parquet", lambda: TEXT, "records.unreadable"),
    "parquet of nothing": ("data.parquet", lambda: b"", "records.unreadable"),
    "arrow that is none": ("data.arrow", lambda: TEXT, "records.unreadable"),
    "tar that is none": ("data.tar", lambda: TEXT * 40, "records.unreadable"),
    "gzip that is none": ("data.json.gz", lambda: TEXT, "records.unreadable"),
    "gzip cut": ("data.json.gz", lambda: cut(gzip.compress(TEXT * 50), 0.6), "records.unreadable"),
    "gzip damaged": ("data.json.gz", lambda: damaged(gzip.compress(TEXT * 50), 0.5), "records.unreadable"),
    "gzip of a gigabyte": ("data.json.gz", lambda: gzip.compress(b"[" + b" " * 200_000_000), "records.packed"),
    "gzip of a long line": ("data.jsonl.gz", lambda: gzip.compress(b" " * 200_000_000), "records.packed"),
    "gzip under the name of JSON": ("data.json", lambda: gzip.compress(TEXT), "records.packed"),
    "gzip under the name of lines": ("data.jsonl", lambda: gzip.compress(TEXT), "records.packed"),
    "gzip under the name of a table": ("data.csv", lambda: gzip.compress(b"question,answers\na,b\n"), "records.packed"),
    "zip under the name of JSON": ("data.json", lambda: b"PK\x03\x04" + bytes(60), "records.packed"),
    "a pointer": ("data.json", lambda: b"version https://git-lfs.github.com/spec/v1\noid x\n", "records.lfs_pointer"),
    "a table of nothing": ("data.csv", lambda: b"", "table.syntax"),
    "a table with a header alone": ("data.csv", lambda: b"question,answers\n", "records.none"),
    "a row too long": ("data.csv", lambda: b"question,answers\na,b,c\n", "table.syntax"),
    "a row too short": ("data.csv", lambda: b"question,answers\na\n", "table.syntax"),
    "a column twice": ("data.csv", lambda: b"question,question\na,b\n", "table.syntax"),
    "a quote left open": ("data.csv", lambda: b'question,answers\n"a,b\n', "table.syntax"),
    "a table in Latin-1": ("data.csv", lambda: "question,answers\né,b\n".encode("latin-1"), "table.syntax"),
    "a table in UTF-16": ("data.tsv", lambda: "question\tanswers\na\tb\n".encode("utf-16"), "table.syntax"),
    "an unknown ending": ("data.xyz", lambda: TEXT, "records.format"),
    "a pickle": ("data.pkl", lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", "records.format"),
    "an empty list": ("data.json", lambda: b"[]", "records.none"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(file_of())
    return tmp_path


@pytest.mark.parametrize("task", GOOD)
def test_what_is_spoiled_is_good_before(task: Task, folder: Path) -> None:
    assert code_of(write_records(folder, [GOOD[task]]), task) is None


@pytest.mark.parametrize(("task", "fields", "code"), RECORDS.values(), ids=RECORDS)
def test_a_record(task: Task, fields: Fields, code: str, folder: Path) -> None:
    assert code_of(write_records(folder, [fields]), task) == code
    if code != "json.lone_surrogate":
        assert code_of(write_records(folder, [{**GOOD[task], "id": "b"}, fields]), task) == code


@pytest.mark.parametrize("task", GOOD)
@pytest.mark.parametrize(("made", "code"), PICTURES.values(), ids=PICTURES)
def test_a_picture(made: Callable[[], bytes], code: str, task: Task, folder: Path) -> None:
    (folder / "a.png").write_bytes(made())
    assert code_of(write_records(folder, [GOOD[task]]), task) == code


@pytest.mark.parametrize(("name", "made", "code"), FILES.values(), ids=FILES)
def test_a_file(name: str, made: Callable[[], bytes], code: str, folder: Path) -> None:
    path = folder / name
    path.write_bytes(made())
    assert code_of(path, "conversations") == code


def test_there_are_enough_of_them() -> None:
    assert len(RECORDS) + len(PICTURES) + len(FILES) + len(BAD_LISTS) + len(BAD_LINES) >= 160


def test_a_picture_in_a_parquet_file_is_judged_like_a_file(folder: Path) -> None:
    path = folder / "data.parquet"
    bad = {"bytes": cut(file_of(), 0.5), "path": "a.png"}
    pq.write_table(pa.table({"image": [bad], "question": ["What?"], "answers": [["red"]]}), path)
    assert code_of(path, "conversations") == "image.truncated"


# The page of the codes ------------------------------------------------------------------------------------------------


def codes_in_code() -> Iterator[str]:
    for path in Path(vlm_lit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                yield node.value
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else ""
                for keyword in node.keywords:
                    coded = keyword.arg == "code" and not isinstance(keyword.value, ast.Dict)  # a certificate's
                    given = ast.walk(keyword.value) if coded else ()
                    for one in given:
                        if isinstance(one, ast.Constant) and isinstance(one.value, str) and not one.value.endswith("."):
                            whole = "." in one.value or name != "refusal"
                            yield one.value if whole else f"conversation.{one.value}"


def codes_on_the_page() -> list[str]:
    return re.findall(r"^\| `([a-z_.0-9]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_code_is_on_the_page() -> None:
    listed = codes_on_the_page()
    # These are put together from two words.
    together = {f"image_table.{word}" for word in ("ambiguous", "empty", "key", "missing", "no_key")}
    assert set(codes_in_code()) | together == set(listed)
    assert len(listed) == len(set(listed))


def test_the_codes_of_these_tests_are_on_the_page() -> None:
    given = {code for *_, code in (*RECORDS.values(), *PICTURES.values(), *FILES.values())}
    assert given <= set(codes_on_the_page())
