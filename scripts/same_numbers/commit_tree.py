"""A commit's own tree, and commands that run its code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class SameNumbersError(Exception):
    """What keeps two commits from being compared, in words for the person who asked."""


def commit_name(root: Path, commit: str) -> str:
    """The commit's hash, with `+` behind it where `.` has changes that are not committed.

    Raises:
        SameNumbersError: git knows no such commit.
    """
    name = "HEAD" if commit == "." else commit
    found = git(root, "rev-parse", "--verify", f"{name}^{{commit}}")
    return found + ("+" if commit == "." and git(root, "status", "--porcelain") else "")


def git(folder: Path, *words: str) -> str:
    """What git answers in a folder.

    Raises:
        SameNumbersError: it refuses.
    """
    done = _run(["git", *words], folder, None)
    if done.returncode != 0:
        raise SameNumbersError(f"git {' '.join(words)}: {done.stdout.strip()}")
    return done.stdout.strip()


@contextmanager
def checked_out(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """The commit's files in a git worktree at `folder`, removed at the end; `.` is the tree at `root` as it stands.

    Raises:
        SameNumbersError: git could not make it.
    """
    if commit == ".":
        yield root
        return
    git(root, "worktree", "add", "--detach", "--quiet", str(folder), commit)
    # Told to stop, the script still removes the worktree, which the repository would list for ever.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield folder
    finally:
        _run(["git", "worktree", "remove", "--force", str(folder)], root, None)
        signal.signal(signal.SIGTERM, before)


def run_code(tree: Path, folder: Path, words: Sequence[str], log: Path | None = None) -> str:
    """What `python WORDS` writes, run in `folder` with the code of `tree`: on the CPU, one thread, without a network.

    Raises:
        SameNumbersError: its exit status is not 0.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # sums in one order
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    done = _run([sys.executable, *words], folder, environment)
    shown = " ".join(word.strip().replace("\n", "; ") for word in words)
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ python {shown}\n{done.stdout}\n")
    if done.returncode != 0:
        said = "\n".join(done.stdout.strip().splitlines()[-6:])
        raise SameNumbersError(f"python {shown} ended with {done.returncode}:\n{said}")
    return done.stdout


def _run(words: Sequence[str], folder: Path, environment: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
