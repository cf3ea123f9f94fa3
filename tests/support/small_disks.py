"""Disks of a chosen size, and commands whose words are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.interrupted import start


class SmallDisk:
    """A file system in memory, mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remount(self, options: str) -> None:
        """Change its size (`size=1m`), or whether it may be written (`ro`, `rw`)."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """A disk of `size` at `folder`; where nobody may mount one, the test is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _said(words: tuple[str, ...], log: str, limit: int | None) -> None:
    import resource

    from vlm_lit.cli import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(words))


def typed(log: Path, *words: object, largest_file: int | None = None) -> tuple[int, str]:
    """The exit status of a command in a process of its own, and what it said on stderr, kept in `log`."""
    process = start(_said, tuple(map(str, words)), str(log), largest_file)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, log.read_text()


def refused(log: Path, *words: object, largest_file: int | None = None) -> str:
    """The one error line of a command that has to fail with status 2, and no traceback."""
    status, said = typed(log, *words, largest_file=largest_file)
    assert status == 2, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]
