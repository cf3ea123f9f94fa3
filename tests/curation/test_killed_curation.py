"""Tests of kills of `curate --overwrite`: at no moment is neither the old nor the new curation there, whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tiny_models

_CURATE = """
import os, shutil, signal, sys
from vlm_lit.cli import main
from vlm_lit.files import whole
moment, call, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
calls, swapping = 0, False
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def counted(original):
    def function(*arguments, **options):
        global calls
        calls += 1
        if calls == call:
            die()
        return original(*arguments, **options)
    return function
def cannot(*_):
    global swapping
    swapping = True
    return False
if moment == "between":  # where names cannot be swapped: the old one is aside, and the new one not in its place
    whole.exchange = cannot
    rename = os.replace
    def replace(old, new):
        global calls
        calls += swapping
        return die() if calls == 2 else rename(old, new)
    os.replace = replace
elif moment != "never":
    owner = shutil if moment == "rmtree" else whole
    setattr(owner, moment, counted(getattr(owner, moment)))
sys.exit(main(["curate", *words]))
"""


def curate(home: Path, source: str, moment: str = "never", call: int = 1) -> int:
    words = [source, "--images", "photos", "--output", "out", "--overwrite"]
    command = [sys.executable, "-c", _CURATE, moment, str(call), *words]
    return subprocess.run(command, cwd=home, capture_output=True, check=False).returncode


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for k in range(8):
        tiny_models.picture(k, (40 + k, 32)).save(tmp_path / "photos" / f"{k}.png")
    rows = [{"id": f"r{k}", "image": f"{k}.png", "question": "what is it?", "answer": f"answer {k}"} for k in range(8)]
    for name, some in (("old", rows[:5]), ("new", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return tmp_path


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    ("moment", "call", "left"),
    [
        ("_to_disk", 1, "old"),
        ("_to_disk", 5, "old"),
        ("settle", 1, "old"),
        ("exchange", 1, "old"),
        ("rmtree", 1, "new"),
        ("between", 2, None),
    ],
)
def test_a_kill_leaves_the_old_or_the_new_one(moment: str, call: int, left: str | None, home: Path) -> None:
    assert curate(home, "old.jsonl") == 0
    old = content(home / "out")
    # The earlier rows decide where pictures go, so what goes on from them is compared with an undisturbed run of it.
    assert curate(home, "new.jsonl") == 0
    after = content(home / "out")
    (home / "out").rename(home / "undisturbed")
    assert curate(home, "old.jsonl") == 0
    assert content(home / "out") == old
    assert old.keys() >= {"curation.json"}
    assert old != after
    assert curate(home, "new.jsonl", moment, call) == -9
    if left is None:
        assert not (home / "out").exists()
    else:
        assert content(home / "out") == {"old": old, "new": after}[left]
    assert curate(home, "new.jsonl") == 0
    assert content(home / "out") == after
    assert sorted(p.name for p in home.iterdir() if p.name.startswith(".")) == []
