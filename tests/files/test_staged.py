"""Tests of staging places: which are swept, and which are somebody's who is still writing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_lit.files import staged
from vlm_lit.files.staged import staging_path, sweep, writer_of

NOBODY = 2_000_000_000  # process numbers end below this on every system
DAY = 24 * 3600


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_place_names_its_writer(tmp_path: Path) -> None:
    for kind in ("tmp", "old"):
        assert writer_of(staging_path(tmp_path / "step-000001.ckpt", kind)) == os.getpid()


@pytest.mark.parametrize(
    "name", [f".a.ckpt.tmp-{NOBODY}", f".a.ckpt.tmp-{NOBODY}-0123abcd", f".a.ckpt.tmp-{NOBODY}-{staged._HOST}0123abcd"]
)
def test_what_a_dead_writer_left_is_swept_whichever_version_it_was(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    (tmp_path / name.replace(".a.", ".b.")).mkdir()
    (tmp_path / name.replace(".a.", ".b.") / "inside").touch()
    sweep(tmp_path)
    assert left(tmp_path) == []


def test_one_targets_own_are_swept_alone(tmp_path: Path) -> None:
    for name in ("a[1]", "b"):
        (tmp_path / f".{name}.tmp-{NOBODY}").touch()
    sweep(tmp_path, "a[1]")
    assert left(tmp_path) == [f".b.tmp-{NOBODY}"]


def test_what_is_nobodys_staging_place_stays(tmp_path: Path) -> None:
    for name in (".notes.tmp-final", ".git", "a.tmp-1"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert len(left(tmp_path)) == 3


def test_a_living_writers_own_stays_and_a_dead_ones_of_the_same_number_goes(tmp_path: Path) -> None:
    mine, earlier = staging_path(tmp_path / "mine"), staging_path(tmp_path / "earlier")
    for path in (mine, earlier):
        path.mkdir()
    # As in a container, whose first process always has the number 1: written before this process began.
    os.utime(earlier, (time.time() - DAY, time.time() - DAY))
    sweep(tmp_path)
    assert left(tmp_path) == [mine.name]


def test_a_folder_is_as_young_as_what_was_written_into_it_last(tmp_path: Path) -> None:
    path = staging_path(tmp_path / "model")
    path.mkdir()
    (path / "weights").touch()
    os.utime(path, (time.time() - DAY, time.time() - DAY))
    sweep(tmp_path)
    assert left(tmp_path) == [path.name]


def test_another_machines_stays_until_it_was_not_touched_for_hours(tmp_path: Path) -> None:
    names = [f".{name}.tmp-{NOBODY}-{int(staged._HOST, 16) ^ 1:08x}0123abcd" for name in ("new", "old")]
    for name in names:
        (tmp_path / name).touch()
    os.utime(tmp_path / names[1], (time.time() - DAY, time.time() - DAY))
    sweep(tmp_path)
    assert left(tmp_path) == [names[0]]


def test_another_process_is_seen_to_live(tmp_path: Path) -> None:
    words = "import sys; from pathlib import Path; from vlm_lit.files.staged import staging_path; "
    words += "staging_path(Path(sys.argv[1]) / 'a').touch(); print('there', flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", words, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "there\n"
    sweep(tmp_path)
    assert len(left(tmp_path)) == 1
    writer.kill()
    writer.communicate()
    sweep(tmp_path)
    assert left(tmp_path) == []
