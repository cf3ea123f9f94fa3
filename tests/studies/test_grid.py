"""Tests of a study's cells: which there are, the words that start each, and when two are one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_studies import write_study
from vlm_lit.errors import ConfigError
from vlm_lit.studies.running.cell_record import CellRecord, read_record, write_record
from vlm_lit.studies.running.digest import digests
from vlm_lit.studies.running.grid import Cell, arguments, cells
from vlm_lit.studies.running.study_file import read_study


def test_every_combination_with_every_seed_once(tmp_path: Path) -> None:
    found = cells(read_study(write_study(tmp_path, seeds=[3, 1])))
    assert [cell.key for cell in found][:5] == [
        "x=0.25,way=short/seed=3", "x=0.25,way=short/seed=1", "x=0.25,way=long/seed=3", "x=0.25,way=long/seed=1",
        "x=0.5,way=short/seed=3",
    ]  # fmt: skip
    assert len({cell.key for cell in found}) == len(found) == 3 * 2 * 2


def test_the_words_that_start_a_cell(tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("{}")
    factors = {
        "x": {"key": "x", "values": [True, None]},
        "way": {
            "levels": {"short": {"set": {"a.b": [1, "two"]}}, "long": {"config": "over.yaml", "set": {"a.b": "no"}}}
        },
    }
    study = read_study(
        write_study(tmp_path, factors=factors, baseline={"x": True, "way": "long"}, set={"max": 1e-5}, folder="out")
    )
    base = ["--config", str(tmp_path / "config.yaml")]
    first, second = cells(study)[:2]
    assert arguments(study, first) == [
        *base, "--run_dir=out/cells/x=true,way=short/seed=0", "--seed_everything=0", "--max=1e-05", "--x=true",
        '--a.b=[1, "two"]',
    ]  # fmt: skip
    assert arguments(study, second) == [
        *base, "--config", str(tmp_path / "over.yaml"), "--run_dir=out/cells/x=true,way=long/seed=0",
        "--seed_everything=0", "--max=1e-05", "--x=true", "--a.b=no",
    ]  # fmt: skip


def test_drawn_values_that_round_to_one_name_are_told_apart() -> None:
    one, other = (Cell(levels={"x": "1"}, seed=0, parameters={"a.rate": value}) for value in (1e-3, 1.000001e-3))
    assert one.name.startswith("x=1,rate=0.001-")
    assert one.name != other.name


def digest(folder: Path, **changes: object) -> dict[str, str]:
    study = read_study(write_study(folder, **changes))
    return digests(study, cells(study))


def test_a_digest_is_over_what_files_say_not_where_they_lie(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    assert digest(one) == digest(other)
    assert len(set(digest(one).values())) == 6


def test_a_digest_sees_into_the_files_that_a_config_names(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "config.yaml").write_text("run_dir: a\nmodel: parts/model.yaml\n")
    (tmp_path / "parts" / "model.yaml").write_text("inner: [deep.yaml]\n")
    study = read_study(path)
    found = []
    for text in ("rank: 1", "rank: 2", "rank: 1  # again"):
        (tmp_path / "parts" / "deep.yaml").write_text(text)
        found.append(digests(study, cells(study)))
    assert found[0] == found[2]
    assert not set(found[0].values()) & set(found[1].values())
    (tmp_path / "config.yaml").write_text("run_dir: b\nmodel: parts/model.yaml\n")  # a cell has its own
    assert digests(study, cells(study)) == found[2]


def test_a_config_that_names_itself_is_refused(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    (tmp_path / "config.yaml").write_text("model: config.yaml\n")
    with pytest.raises(ConfigError, match="names itself"):
        digests(study, cells(study))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = CellRecord(
        study="s", levels={"x": "1"}, seed=2, digest="d", status="failed", started="now", error="why\nthat",
        seconds={"fit": 1.5}, peak_memory_mib=12.0, worker="here:1", parameters={"a.rate": 0.1},
    )  # fmt: skip
    assert read_record(tmp_path) is None
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["cell.json"]
