"""Tests of runs that leave bad records out: their manifest, their results, and what a resumed run compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import edited, refusal
from tests.support.runs import run_dir, verb

Config = Callable[..., Path]


@pytest.fixture
def skipping(config: Config, small: Path, tmp_path: Path) -> Path:
    """A config whose training data lack one picture of twenty and whose test data one of six."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(small / "images")
    for name, bad in (("train", 4), ("val", 2)):
        rows = json.loads((small / f"{name}.json").read_text())
        rows[bad]["image"] = "images/gone.png"
        (tmp_path / f"data/{name}.json").write_text(json.dumps(rows))
    changes: dict[str, object] = {
        "data.init_args.train.path": str(tmp_path / "data/train.json"),
        "data.init_args.test.path": str(tmp_path / "data/val.json"),
        "data.init_args.bad_records": "skip",
        "trainer.max_steps": 2,
        "trainer.limit_val_batches": 0,
    }
    return edited(config(), changes)


def manifest(config: Path) -> list[dict[str, Any]]:
    """The lines of a run's bad_records.jsonl."""
    return [json.loads(line) for line in (run_dir(config) / "bad_records.jsonl").read_text().splitlines()]


def test_a_run_says_what_it_left_out(skipping: Path) -> None:
    assert verb("fit", skipping) == 0
    (line,) = manifest(skipping)
    assert {name: line[name] for name in ("split", "index", "code", "record")} == {
        "split": "train",
        "index": 4,
        "code": "image.missing",
        "record": "4 (id 'train4')",
    }
    assert verb("test", skipping, "--ckpt_path", "last") == 0
    assert [(line["split"], line["index"]) for line in manifest(skipping)] == [("train", 4), ("test", 2)]
    results = json.loads((run_dir(skipping) / "results.json").read_text())
    assert (results["n"], results["skipped_records"]) == (5, 1)


def test_a_run_goes_on_with_the_same_set_only(
    skipping: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb("fit", skipping, "--trainer.max_steps", "2") == 0
    longer = ("--trainer.max_steps", "3", "--ckpt_path", "last")
    picture = tmp_path / "data/images/gone.png"
    picture.write_bytes((small / "images/train0.png").read_bytes())
    try:
        error = refusal(capsys, "fit", "--config", str(skipping), *longer)
    finally:
        picture.unlink()
    assert "conversations (was 19, is 20), skipped_records (was 1 record" in error
    assert verb("fit", skipping, *longer) == 0


def test_a_run_of_good_records_has_no_manifest(config: Config) -> None:
    path = edited(config(), {"data.init_args.bad_records": "skip", "trainer.max_steps": 1})
    assert verb("fit", path) == 0
    assert not (run_dir(path) / "bad_records.jsonl").exists()
    assert verb("test", path, "--ckpt_path", "last") == 0
    assert "skipped_records" not in json.loads((run_dir(path) / "results.json").read_text())
