"""Tests of small files that stand for gigabytes: refused by name before anything of them is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from vlm_lit.commands.sheets import iter_sheet
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.data.records.unpacked_size import check_unpacked
from vlm_lit.errors import RecordError

JSON = json.dumps({"question": "What?", "answer": "a box"}).encode()
SIZE = 80 * 2**20  # above what any small file may unpack to
ZEROS = bytes(SIZE)


def archive(path: Path, **members: bytes | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in {"a.json": JSON, **members}.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def member(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def with_header(path: Path, change: Callable[[bytearray], None]) -> Path:
    """An archive whose second member's header is changed, its sum set right."""
    data = bytearray(archive(path, **{"a.txt": b""}).read_bytes())
    head = data[1024:1536]
    change(head)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    data[1024:1536] = head
    path.write_bytes(data)
    return path


def sparse(head: bytearray) -> None:
    head[156:157] = b"S"
    head[386:410] = (b"%011o\0" % 0) * 2
    head[483:495] = b"%011o\0" % SIZE


def negative(head: bytearray) -> None:
    head[124:136] = b"\xff" * 10 + b"\xfc\0"


def packed(path: Path) -> Path:
    path.write_bytes(gzip.compress(archive(path).read_bytes()))
    return path


def one_value() -> pa.Table:
    return pa.table({"question": ["What?"], "answer": ["a box"], "x": pa.array([ZEROS], pa.binary())})


def parquet(path: Path, table: pa.Table | None = None, **options: Any) -> Path:
    pq.write_table(one_value() if table is None else table, path, **{"compression": "zstd", **options})
    return path


def repeated(long: str, rows: int, short: int = 0) -> pa.Table:
    """Each row has the long text, but for the first `short` ones."""
    answers = pa.DictionaryArray.from_arrays(pa.array([0] * short + [1] * (rows - short), pa.int32()), ["box", long])
    turns = pa.array([{"role": "user", "content": "What?"}] * rows)
    return pa.table({"question": ["What?"] * rows, "answer": answers, "turn": turns})


def lying(path: Path) -> Path:
    """A file whose footer says that everything in it is small; only its pages say what they hold."""
    data = bytearray(parquet(path, use_dictionary=False).read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    metadata = pq.read_metadata(path).row_group(0)
    for size in (metadata.column(2).total_uncompressed_size, metadata.total_byte_size):
        said = _number(size)
        small = b"\x82" + b"\x80" * (len(said) - 2) + b"\0"
        while (at := data.find(said, footer)) >= 0:
            data[at : at + len(small)] = small
    path.write_bytes(data)
    assert pq.read_metadata(path).row_group(0).column(2).total_uncompressed_size == 1
    return path


def _number(value: int) -> bytes:
    value, found = value << 1, bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found + bytes([value]))


def arrow(path: Path, table: pa.Table, compression: str | None = "zstd") -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar under gzip": (lambda d: packed(d / "x.tar"), "records.packed"),
    "tar with a packed member": (
        lambda d: archive(d / "x.tar", **{"a.txt.gz": gzip.compress(ZEROS)}),
        "records.packed",
    ),
    "tar with a member packed otherwise": (lambda d: archive(d / "x.tar", **{"a.txt.zst": b"x"}), "records.member"),
    "tar with a symbolic link": (lambda d: archive(d / "x.tar", x=member(tarfile.SYMTYPE)), "records.member"),
    "tar with a hard link": (lambda d: archive(d / "x.tar", x=member(tarfile.LNKTYPE)), "records.member"),
    "tar with a device": (lambda d: archive(d / "x.tar", x=member(tarfile.CHRTYPE)), "records.member"),
    "tar with gaps": (lambda d: with_header(d / "x.tar", sparse), "records.member"),
    "tar with a negative size": (lambda d: with_header(d / "x.tar", negative), "records.member"),
    "tar with nested JSON": (lambda d: archive(d / "x.tar", **{"b.json": b"[" * 100_000}), "json.too_deep"),
    "Parquet with a page of zeros": (lambda d: parquet(d / "x.parquet", use_dictionary=False), "records.packed"),
    "Parquet with pages of version 2": (
        lambda d: parquet(d / "x.parquet", use_dictionary=False, data_page_version="2.0"),
        "records.packed",
    ),
    "Parquet whose footer lies": (lambda d: lying(d / "x.parquet"), "records.packed"),
    "Parquet with one text a thousand times": (
        lambda d: parquet(d / "x.parquet", repeated("a" * 2**20, 100)),
        "records.packed",
    ),
    "Parquet with many rows": (
        lambda d: parquet(d / "x.parquet", pa.table({"n": pa.nulls(9_000_000, pa.int32())})),
        "records.packed",
    ),
    "Arrow with packed zeros": (lambda d: arrow(d / "x.arrow", one_value()), "records.packed"),
    "Arrow with rows of nothing": (
        lambda d: arrow(d / "x.arrow", pa.table({"question": pa.nulls(2**31 - 1)})),
        "records.packed",
    ),
}


@pytest.mark.parametrize("read", [read_records, lambda path: list(stream_records(path))], ids=["table", "stream"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_name(name: str, read: Callable[[Path], Iterable[object]], tmp_path: Path) -> None:
    make, code = BOMBS[name]
    path = make(tmp_path)
    assert path.stat().st_size < 2**20
    with pytest.raises(RecordError) as refused:
        list(read(path))
    assert (refused.value.code, path.name in str(refused.value)) == (code, True)


def test_a_bomb_in_a_saved_folder_is_refused(tmp_path: Path) -> None:
    arrow(tmp_path / "data-00000-of-00001.arrow", one_value())
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(RecordError, match=r"data-00000-of-00001.arrow: unpacked it has more than"):
        read_records(tmp_path)


def test_a_sheet_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    from zipfile import ZIP_DEFLATED, ZipFile

    book = openpyxl.Workbook()
    book.active.append(["question", "answer"])
    book.save(tmp_path / "x.xlsx")
    with ZipFile(tmp_path / "x.xlsx", "a", ZIP_DEFLATED) as parts:
        parts.writestr("xl/more.xml", b" " * SIZE)
    with pytest.raises(RecordError, match=r"x.xlsx: unpacked it has more than"):
        list(iter_sheet(tmp_path / "x.xlsx"))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_a_file_that_repeats_itself_as_data_does_is_read(version: str, compression: str, tmp_path: Path) -> None:
    """One long text in one row of many is no bomb, although as many of them would be."""
    path = tmp_path / "x.parquet"
    parquet(path, repeated("a" * 2**20, 2000, short=1999), compression=compression, data_page_version=version)
    assert len(read_records(path)) == 2000
    parquet(path, repeated("a" * 20, 5000), compression=compression, row_group_size=1000, data_page_size=100)
    check_unpacked([path])


def test_pages_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", repeated("a", 10))
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(range(200, 236))
    path.write_bytes(data)
    with pytest.raises(RecordError, match=r"x.parquet"):
        read_records(path)


def test_packed_batches_of_a_fair_size_are_read(tmp_path: Path) -> None:
    path = arrow(tmp_path / "x.arrow", pa.table({"question": ["What?"] * 100, "answer": ["a box"] * 100}), "lz4")
    assert len(read_records(path)) == 100


def test_a_packed_member_of_a_fair_size_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", **{"a.txt.gz": gzip.compress(b"some words")})
    (record,) = read_records(path)
    assert record.fields["answer"] == "a box"
