"""Tests of streams read by place: a rank and a worker read their own records' bytes, measured by the kernel."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from tests.support import shards
from vlm_lit.data.records.conversation_dataset import open_source
from vlm_lit.data.records.record_sequences import ArrowRecords
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.errors import RecordError
from vlm_lit.files import strict_json
from vlm_lit.schema import Conversation

COUNT, SIDE, BATCH = 48, 300, 8
STEPS = COUNT // BATCH
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bytes are counted by Linux")


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shards.write_shards(tmp_path_factory.mktemp("tars"), COUNT, 2, side=SIDE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shards.write_saved(tmp_path_factory.mktemp("saved") / "table", COUNT, side=SIDE)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shards.write_lines(tmp_path_factory.mktemp("lines") / "a.jsonl", COUNT)


def arranged(path: str, rank: int, world: int, *, steps: int = STEPS, start: int = 0) -> StreamedSteps[Conversation]:
    source = SourceSettings(path=path, streaming=True)
    stream = open_source(source, prompt=None, system=None, requires_answer=True, check_images=True)
    assert isinstance(stream, StreamedSteps)
    return stream.arranged(BATCH, steps, 5, start, rank, world)


def questions(step_batches: Iterator[list[Conversation]] | DataLoader[list[Conversation]]) -> list[list[str]]:
    return [[conversation.turns[0].text for conversation in step_batch] for step_batch in step_batches]


def read_by_calls() -> int:
    """Bytes that this process has read by system calls."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def bytes_read(path: str, rank: int, world: int, start: int = 0) -> tuple[int, list[list[str]]]:
    before = read_by_calls()
    said = questions(iter(arranged(path, rank, world, start=start)))
    return read_by_calls() - before, said


def test_a_rank_reads_its_share_of_an_archives_bytes(tars: str) -> None:
    bytes_read(tars, 0, 1)  # which imports what it needs
    one = 3 * SIDE * SIDE
    # To tell the fields' types, `datasets` looks at the first five samples of the first shard, and finds the sixth.
    more, (whole, said) = 6 * one, bytes_read(tars, 0, 1)
    assert whole > COUNT * one
    shares = []
    for rank in range(2):
        read, share = bytes_read(tars, rank, 2)
        # Rank 0 reads the whole first step batch as well, to say what of its records is not used.
        assert read < (COUNT // 2 + (BATCH // 2 if rank == 0 else 0)) * one * 1.1 + more, rank
        shares.append(share)
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(step_batch) for step_batch in said]
    read, rest = bytes_read(tars, 1, 2, start=4)
    assert rest == shares[1][4:]
    assert read < (STEPS - 4) * BATCH // 2 * one * 1.1 + more  # and nothing of the steps that are done


def test_a_worker_reads_the_records_of_its_own_steps(tars: str) -> None:
    """What a worker reads is counted in the worker."""
    loader: DataLoader[int] = DataLoader(_Counted(arranged(tars, 1, 2)), batch_size=None, num_workers=2)  # type: ignore[arg-type]
    one = 3 * SIDE * SIDE
    most = max(loader)
    assert most < COUNT // 4 * one * 1.1 + 6 * one
    workers: DataLoader[list[Conversation]] = DataLoader(arranged(tars, 1, 2), batch_size=None, num_workers=2)
    assert questions(workers) == questions(iter(arranged(tars, 1, 2)))


class _Counted(StreamedSteps[Conversation]):
    """A stream that gives, in place of a step batch, how many bytes its process has read for all so far."""

    def __init__(self, stream: StreamedSteps[Conversation]) -> None:
        self.__dict__.update(stream.__dict__)

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        before = read_by_calls()
        for _ in super().__iter__():
            yield read_by_calls() - before


def test_a_rank_reads_its_share_of_a_tables_rows(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where a row is asked of the mapped file: which pages come in beside it is the kernel's affair."""
    really, rows = ArrowRecords._read, list[int]()

    def counted(self: ArrowRecords, row: int) -> Mapping[str, object]:
        rows.append(row)
        return really(self, row)

    monkeypatch.setattr(ArrowRecords, "_read", counted)
    said = questions(iter(arranged(saved, 0, 1)))
    assert sorted(rows) == list(range(COUNT))
    shares = []
    for rank in range(2):
        rows.clear()
        shares.append(questions(iter(arranged(saved, rank, 2))))
        assert len(rows) == len(set(rows)) == COUNT // 2 + (BATCH // 2 if rank == 0 else 0)
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(step_batch) for step_batch in said]
    rows.clear()
    assert questions(iter(arranged(saved, 1, 2, start=4))) == shares[1][4:]
    assert len(rows) == (STEPS - 4) * BATCH // 2


def test_a_streamed_archive_has_the_records_of_a_read_one(tars: str) -> None:
    read = list(read_records(tars))
    assert len(read) == COUNT
    assert list(stream_records(tars)) == read
    assert list(stream_records(tars, later=True)) == read


def test_a_sample_that_cannot_be_read_is_met_by_whoever_reads_it(tmp_path: Path) -> None:
    sample = b'{"question": "a?", "answers": ["b"]}'
    names = [f"s{i}.json" for i in range(7)]
    path = shards.write_tar(tmp_path / "a.tar", {**dict.fromkeys(names, sample), "s7.json": b"{"})
    records = list(stream_records(path, later=True))
    assert [record.fields["question"] for record in records[:7]] == ["a?"] * 7
    with pytest.raises(RecordError, match=r"a\.tar, record s7\.json: the text ends too early"):
        records[7].fields["question"]
    with pytest.raises(RecordError, match=r"a\.tar, record s7\.json: the text ends too early"):
        list(stream_records(path))


def test_a_rank_parses_its_share_of_json_lines(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a line ends is only known to who has read it, so each rank reads them all; parsing is what takes long."""
    really, numbers = strict_json.parse_object, list[int]()

    def counted(*arguments: Any, **more: Any) -> tuple[dict[str, object], int]:
        found = really(*arguments, **more)
        numbers.append(int(str(found[0]["question"]).split()[1].rstrip("?")))
        return found

    monkeypatch.setattr(strict_json, "parse_object", counted)
    said = questions(iter(arranged(lines, 0, 1)))
    assert sorted(numbers) == list(range(COUNT))
    for world in (2, 4):
        shares = []
        for rank in range(world):
            numbers.clear()
            shares.append(questions(iter(arranged(lines, rank, world))))
            assert len(numbers) == len(set(numbers)) == COUNT // world + (BATCH - BATCH // world if rank == 0 else 0)
        assert [sorted(chain.from_iterable(step)) for step in zip(*shares, strict=True)] == [
            sorted(step) for step in said
        ]
    numbers.clear()
    assert questions(iter(arranged(lines, 3, 4, start=4))) == shares[3][4:]
    assert len(numbers) == (STEPS - 4) * BATCH // 4


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_streamed_lines_are_those_that_are_read(ending: str, tmp_path: Path) -> None:
    text = "\n".join(['{"question": "a?"}', "", '{"question": "b?"}', "{"])
    path = tmp_path / f"a.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    first, second, broken = stream_records(path, later=True)
    assert [(record.index, record.fields["question"]) for record in (first, second)] == [(0, "a?"), (1, "b?")]
    with pytest.raises(RecordError, match=r"record 2 \(line 4, column 2\)") as later:
        broken.fields["question"]
    with pytest.raises(RecordError) as at_once:
        list(stream_records(path))
    assert str(at_once.value) == str(later.value)
