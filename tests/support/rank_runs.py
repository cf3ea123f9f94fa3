"""Ranks in processes of their own, launched as torchrun does, each of which types several commands one after another.

One launch serves many checks: the processes are forked from one that has imported everything.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import tiny_models
from tests.support.interrupted import start
from tests.support.ports import free_port
from vlm_lit.training.callbacks.step_checkpoint import StepCheckpoint

Tampering = Callable[[int], AbstractContextManager[None]]
"""Given a rank, what is otherwise while a command runs there."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that every rank types, and its exit status."""

    words: tuple[str, ...]
    tampering: Tampering | None = None
    status: int = 0


def _rank(rank: int, world: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    from vlm_lit.cli import main

    if world > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    with (folder / f"rank{rank}.txt").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    for job in jobs:
        print(">>>", *job.words, flush=True)
        with job.tampering(rank) if job.tampering is not None else nullcontext():
            status = main(job.words)
        if status != job.status:
            sys.exit(f"the exit status is {status} where {job.status} was expected")


def typed(world: int, jobs: Sequence[Job], folder: Path, *, seconds: float = 300.0) -> list[int | None]:
    """The exit statuses of `world` ranks, None of one that has not ended in time; what each says is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = [start(_rank, rank, world, port, jobs, folder) for rank in range(world)]
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return [p.exitcode if p is not process else None for p in processes]
    return [process.exitcode for process in processes]


def said(folder: Path, rank: int = 0) -> str:
    """All that a rank has said."""
    return (folder / f"rank{rank}.txt").read_text()


def finished(world: int, jobs: Sequence[Job], folder: Path) -> None:
    """Ranks that all end well.

    Raises:
        AssertionError: one has not; with what each said last.
    """
    statuses = typed(world, jobs, folder)
    told = "\n".join(f"--- rank {rank}\n{said(folder, rank)[-3000:]}" for rank in range(world))
    assert statuses == [0] * world, f"{statuses}\n{told}"


def keeper(every: int = 1) -> dict[str, Any]:
    """A callback that keeps every checkpoint."""
    name = f"{StepCheckpoint.__module__}.{StepCheckpoint.__qualname__}"
    return {"class_path": name, "init_args": {"every_n_steps": every, "keep": 100}}


def write_mixed(folder: Path) -> Path:
    """train.json with 13 conversations, several about one picture, every third without one; val.json with 5."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 13), ("val", 5)):
        rows = []
        for i in range(count):
            shows = i % 3 != 2
            name = f"images/{split}{i // 4}.png"
            tiny_models.picture(i // 4).save(folder / name)
            question = "what colour is the lamp?" if i % 2 else f"how many tools are there at {i}?"
            talk = [
                {"from": "human", "value": ("<image>\n" if shows else "") + question},
                {"from": "gpt", "value": " ".join(["red", "two", "no"][: 1 + i % 3])},
            ]
            rows.append({"id": f"{split}{i}", "conversations": talk, **({"image": name} if shows else {})})
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder
