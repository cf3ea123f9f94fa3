"""Runs of `fit` in processes of their own that die by SIGKILL at a chosen place, and what such runs leave.

The processes are forked from one that has imported everything and computed nothing: a run costs a second or two.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from pkgutil import resolve_name

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.runs import scalars
from vlm_lit.models.adapter_state import file_sha256

Tamper = Callable[[], None]

_TIMINGS = ("per_second", "data_wait_share", "peak_memory_gib")


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What strikes on entry of the `call`-th call (from 1) of the function named `at` (`package.module:function`).

    `by` is a signal, sent `times` times, or an error, raised.
    """

    at: str
    call: int
    by: signal.Signals | Exception = signal.SIGKILL
    times: int = 1


def arm(kill: Kill) -> None:
    """Put the kill in place, in this process."""
    module, _, path = kill.at.partition(":")
    inner, _, name = path.rpartition(".")
    owner = resolve_name(f"{module}:{inner}" if inner else module)
    original, calls = getattr(owner, name), 0

    def deadly(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == kill.call:
            if isinstance(kill.by, Exception):
                raise kill.by
            for _ in range(kill.times):
                os.kill(os.getpid(), kill.by)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


def _fit(arguments: tuple[str, ...], kill: Kill | None, tamper: Tamper | None) -> None:
    from vlm_lit.cli import main

    if tamper is not None:
        tamper()
    if kill is not None:
        arm(kill)
    sys.exit(main(["fit", *arguments]))


def _begin(function: Callable[..., None], arguments: tuple[object, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for data workers: as in a process started by hand
    function(*arguments)


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process of its own that runs `function`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vlm_lit.commands.lightning", "vlm_lit.training.supervised", "bitsandbytes"])
    process = context.Process(target=_begin, args=(function, arguments))
    process.start()
    return process


def fit_apart(config: Path, folder: Path, *more: str, kill: Kill | None = None, tamper: Tamper | None = None) -> int:
    """The exit status of `fit` into `folder` in a process of its own; -9 where it was killed."""
    process = start(_fit, ("--config", str(config), "--run_dir", str(folder), *more), kill, tamper)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@dataclass(frozen=True)
class Outcome:
    """What must be equal, to the last bit: the figures as TensorBoard shows them, and the trained weights."""

    figures: dict[str, list[tuple[int, str]]]
    panels: list[tuple[int, str]]
    adapter_sha256: str

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        """What the run in `folder` has left; timings are none of it. Values are hex floats, panels digests."""
        figures = {
            tag: [(step, value.hex()) for step, value in values]
            for tag, values in scalars(folder).items()
            if tag.startswith(("train/", "val/")) and not tag.endswith(_TIMINGS)
        }
        events = EventAccumulator(str(folder), size_guidance={"images": 0})
        events.Reload()
        panels = [
            (e.step, hashlib.sha256(e.encoded_image_string).hexdigest())
            for e in events.Images("val_images/predictions")
        ]
        return cls(figures, panels, file_sha256(folder / "adapter" / "adapter_model.safetensors"))
