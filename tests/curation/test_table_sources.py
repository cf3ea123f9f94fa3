"""Tests of curation's tables: a row that cannot be read is one row's problem."""

from __future__ import annotations

from pathlib import Path

from tests.support.shards import write_tar
from vlm_lit.curation.reading import source_rows
from vlm_lit.curation.settings import CuratedSource


def test_a_broken_sample_of_a_shard_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    whole = b'{"question": "a?", "answer": "b"}'
    twice = b'{"question": "a?", "answer": "b", "answer": "c"}'
    path = write_tar(tmp_path / "a.tar", {"s0.json": whole, "s1.json": twice, "s2.json": whole})
    rows = list(source_rows(CuratedSource(path=str(path))))
    assert [row.problem.code if row.problem is not None else None for row in rows] == [None, "json.duplicate_key", None]
    assert [row.fields and row.fields["id"] for row in rows] == ["s0", None, "s2"]
    assert [row.index for row in rows] == [0, 1, 2]
    assert not any(row.ends for row in rows)
