"""Tests of whole-file and whole-folder writing: the order in which the disk is told, kills, and what stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vlm_lit.files.whole
from vlm_lit.files.staged import STAGED, sweep, writer_of
from vlm_lit.files.whole import fill_whole, sync_folder, write_folder_whole, write_whole

_WRITER = """
import os, signal, shutil, sys
from pathlib import Path
from vlm_lit.files import whole
from vlm_lit.files.whole import write_folder_whole, write_whole
calls, which, name = 0, int(sys.argv[3]), sys.argv[2]
if len(sys.argv) > 4:
    whole.exchange = lambda one, other: False
owner = whole if hasattr(whole, name) else shutil if hasattr(shutil, name) else os
original = getattr(owner, name)
def deadly(*arguments, **options):
    global calls
    calls += 1
    if calls == which:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, deadly)
target = Path(sys.argv[1])
if target.suffix:
    write_whole(target, "new" * 1000)
else:
    write_folder_whole(target, lambda folder: (folder / "a").write_text("new"), replace=True)
"""


def killed_writer(target: Path, function: str, call: int, *more: str) -> int:
    """The process id of a writer that was killed on entry of that call of a function of `os`, `shutil` or `whole`.

    Any word `more` says that its file system cannot let two folders swap their names.
    """
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(target), function, str(call), *more])
    assert writer.wait() == -9
    return writer.pid


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk is told, in order: `fsync NAME` and `rename NAME`."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def noted_replace(old: Path, new: Path) -> None:
        calls.append(f"rename {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return calls


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after(tmp_path: Path, told: list[str]) -> None:
    write_whole(tmp_path / "a.json", "{}")
    first, *rest = told
    assert first.startswith("fsync .a.json.tmp-")
    assert rest == ["rename a.json", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_killed_writer_leaves_the_old_file_and_its_number(tmp_path: Path, function: str) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    pid = killed_writer(path, function, 1)
    assert path.read_text() == "old"
    assert [writer_of(left) for left in tmp_path.glob(STAGED)] == [pid]


def test_a_writer_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.json"
    write_whole(path, "old")

    def fill(staging: Path) -> None:
        staging.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_whole(path, fill)
    assert path.read_text() == "old"
    assert names(path.parent) == ["a.json"]


def test_a_folder_that_cannot_be_flushed_is_no_error() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(Path("/proc"))


def test_names_that_no_writer_gave(tmp_path: Path) -> None:
    assert writer_of(tmp_path / ".notes.tmp-final") is None
    assert writer_of(tmp_path / "a.json") is None


# Folders --------------------------------------------------------------------------------------------------------


def filled(*files: str) -> Callable[[Path], int]:
    def fill(folder: Path) -> int:
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("new")
        return len(files)

    return fill


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, told: list[str]) -> None:
    assert write_folder_whole(tmp_path / "made", filled("a", "below/b")) == 2
    *before, rename, after = told
    assert (rename, after) == ("rename made", f"fsync {tmp_path.name}")
    assert set(before[:-1]) == {"fsync a", "fsync b", "fsync below"}
    assert before[-1].startswith("fsync .made.tmp-")
    assert names(tmp_path) == ["made"]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    write_folder_whole(tmp_path / "made", filled("a"))
    with pytest.raises(OSError):
        write_folder_whole(tmp_path / "made", filled("b"))
    assert names(tmp_path / "made") == ["a"]
    assert names(tmp_path) == ["made"]
    # A kill while the folder is filled leaves what the next writing of it clears away.
    (tmp_path / "made" / "a").unlink()
    killed_writer(tmp_path / "made", "_to_disk", 1)
    assert len(names(tmp_path)) == 2
    write_folder_whole(tmp_path / "made", filled("a"))
    assert names(tmp_path) == ["made"]


def test_a_replaced_folder_keeps_what_is_somebody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "a").write_text("old")
    (folder / "notes.txt").write_text("mine")
    write_folder_whole(folder, filled("a", "b"), replace=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "new", "notes.txt": "mine"}
    assert names(tmp_path) == ["adapter"]


def test_a_filler_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder_whole(tmp_path / "made", fill)
    assert names(tmp_path) == []


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder that is to be replaced: a file of ours, a note, a link to nowhere and a folder of somebody else's."""
    folder = tmp_path / "adapter"
    write_folder_whole(folder, filled("a", "theirs/b"))
    (folder / "a").write_text("old")
    (folder / "note").write_text("mine")
    (folder / "nowhere").symlink_to("gone")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


OTHERS = {"note": "mine", "theirs/b": "new"}
SWAPS = {
    "before the swap": ("exchange", 1),
    "behind it, the old one still there": ("rmtree", 1),
}


@pytest.mark.parametrize(("function", "call"), SWAPS.values(), ids=SWAPS.keys())
def test_at_no_moment_is_there_no_folder(adapter: Path, function: str, call: int) -> None:
    killed_writer(adapter, function, call)
    assert contents(adapter) == {**OTHERS, "a": "old" if function == "exchange" else "new"}
    assert (adapter / "nowhere").is_symlink()
    assert len(names(adapter.parent)) == 2
    write_folder_whole(adapter, filled("a"), replace=True)
    assert contents(adapter) == {**OTHERS, "a": "new"}
    assert names(adapter.parent) == ["adapter"], "what the killed writer left is swept by the next one"


RENAMINGS = {"before the first": ("replace", 1), "between the two": ("replace", 2), "behind both": ("rmtree", 1)}


@pytest.mark.parametrize(("function", "call"), RENAMINGS.values(), ids=RENAMINGS.keys())
def test_where_names_cannot_be_swapped_the_next_start_mends_what_a_kill_left(
    adapter: Path, function: str, call: int
) -> None:
    killed_writer(adapter, function, call, "no exchange")
    assert adapter.exists() == ((function, call) != ("replace", 2))
    sweep(adapter.parent)
    assert contents(adapter) == {**OTHERS, "a": "new" if function == "rmtree" else "old"}
    assert names(adapter.parent) == ["adapter"]


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_lit.files.whole, "exchange", lambda *_: False)
    replace, calls = os.replace, list[Path]()

    def refuses_the_second(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise PermissionError("no")
        replace(old, new)

    monkeypatch.setattr(os, "replace", refuses_the_second)
    with pytest.raises(PermissionError):
        write_folder_whole(adapter, filled("a"), replace=True)
    assert contents(adapter) == {**OTHERS, "a": "old"}
    assert names(adapter.parent) == ["adapter"]


def test_a_link_to_a_folder_stays_a_link(adapter: Path) -> None:
    link = adapter.with_name("link")
    link.symlink_to("adapter")
    write_folder_whole(link, filled("a"), replace=True)
    assert link.is_symlink()
    assert contents(adapter) == {**OTHERS, "a": "new"}
    assert names(adapter.parent) == ["adapter", "link"]
