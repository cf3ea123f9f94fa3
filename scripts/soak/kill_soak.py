"""Kill soak: SIGKILLs at random moments over one long run, which must end as the run that was left alone.

Three of ten moments are drawn from a process's start, the others from the time behind its first six steps, so imports,
checks of the data, loading, steps, saves and validations are all struck. `kill_controls` shows that the comparison can
fail.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from soak_rows import Row
from soak_runs import Tamper, Trace, begin, config, last_words, workbench

from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints

_IMAGES: Final = 16  # of eight questions each, so eight steps an epoch
AN_EPOCH: Final = 8
_EVERY: Final = 2  # steps between checkpoints
_STEPS_A_KILL: Final = 2.0  # that a kill leaves behind it, about
_BURST: Final = 0.05  # seconds within which figures are logged together
_HANGS: Final = 900.0  # seconds after which a process that was not killed should have ended or gone on

Moment = Callable[[Path], Callable[[float], bool]]
"""Made for a run directory when a process starts: whether to kill it, so many seconds later."""


@dataclass
class Killed:
    """What was done to a run until it was over."""

    kills: int = 0
    starts: int = 0
    workers: int = 0
    orphans: int = 0
    failed: str = ""


def run(options: argparse.Namespace) -> list[Row]:
    """The rows of the kill soak."""
    folder: Path = options.folder.absolute() / "kills"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bench = workbench(folder / "workbench", _IMAGES)
    short = short_config(folder / "short.yaml", bench, 3)
    timed(short, folder / "first", 3 * AN_EPOCH)  # fills the store of features
    startup, step = timed(short, folder / "second", 3 * AN_EPOCH)
    epochs = max(3, round(options.kills * _STEPS_A_KILL / AN_EPOCH))
    print(f"  {startup:.1f} s to start, {step:.2f} s a step: {epochs * AN_EPOCH} steps", flush=True)
    path = short_config(folder / "long.yaml", bench, epochs)
    timed(path, folder / "alone", epochs * AN_EPOCH)
    draw, until = random.Random(options.seed), time.monotonic() + 60 * options.minutes

    def at_random(run: Path) -> Callable[[float], bool]:
        struck = _while_it_starts(draw, startup) if draw.random() < 0.3 else _behind_steps(run, draw, step)
        return lambda seconds: struck(seconds) and time.monotonic() < until

    killed = until_over(path, folder / "killed", at_random, most=options.kills)
    steps = epochs * AN_EPOCH
    return _rows(folder, killed, steps)


def _rows(folder: Path, killed: Killed, steps: int) -> list[Row]:
    whole = Trace.of(folder / "alone")
    killed.failed = killed.failed or ("" if killed.kills else "no kill came before the end")
    different = [killed.failed] if killed.failed else whole.differences(Trace.of(folder / "killed"))
    of_curves = [d for d in different if not d.startswith("the adapter")]
    points = sum(map(len, [*whole.figures.values(), *whole.pictures.values()]))
    left = [p.name for p in (folder / "killed" / FOLDER).iterdir() if not p.name.endswith(".ckpt")]
    what = f"{killed.kills} SIGKILLs at random over one run of {steps} steps, {killed.starts} starts"
    return [
        Row(
            promise=1,
            figure=f"{what} (packed rows, cached features, two workers, dropout, validations)",
            here=found_different(different, "adapter and all figures as those of the run left alone, to the last bit"),
            held=not different,
        ),
        Row(
            promise=2,
            figure=f"the same run: {len(whole.figures)} curves and {len(whole.pictures)} of pictures, {points} points",
            here=found_different(of_curves, "no step missing, none twice"),
            held=not of_curves,
        ),
        Row(
            promise=3,
            figure="the same run: starts that went on, or began where nothing was kept; files that dead writers left",
            here=killed.failed or f"{killed.starts} of {killed.starts}; {len(left)}",
            held=not killed.failed and not left,
        ),
        Row(
            promise=14,
            figure=f"the same run: data workers that outlived a killed parent by a second, of {killed.workers}",
            here=f"{killed.orphans}",
            held=killed.orphans == 0,
        ),
    ]


def found_different(different: list[str], nothing: str) -> str:
    return ("different: " + "; ".join(different[:4])) if different else nothing


# Moments -------------------------------------------------------------------------------------------------------------


def _while_it_starts(draw: random.Random, startup: float) -> Callable[[float], bool]:
    moment = draw.uniform(0.0, startup)
    return lambda seconds: seconds > moment


def _behind_steps(run: Path, draw: random.Random, step: float) -> Callable[[float], bool]:
    """Some time after a few steps or validations were logged: counted in what is written, for machines are shared."""
    words, delay = draw.randint(1, 6), draw.uniform(0.0, 2 * step)
    size, at = _logged(run), 0.0

    def struck(seconds: float) -> bool:
        nonlocal size, at, words
        if words == 0:
            return seconds - at > delay
        if (now := _logged(run)) != size and seconds - at > _BURST:
            words, at = words - 1, seconds
        size = now
        return False

    return struck


def _logged(run: Path) -> int:
    return sum(path.stat().st_size for path in run.glob("events.out.tfevents.*"))


# Runs ----------------------------------------------------------------------------------------------------------------


def short_config(path: Path, bench: Path, epochs: int) -> Path:
    return config(path, bench, epochs=epochs, every_n_steps=_EVERY, validate_every=10)


def timed(path: Path, folder: Path, steps: int, tamper: Tamper | None = None) -> tuple[float, float]:
    """Seconds to the first checkpoint and for a step, of a run that is left alone."""
    begun = time.monotonic()
    process = begin(path, folder, resume=False, tamper=tamper)
    while process.exitcode is None and not checkpoints(folder / FOLDER):
        time.sleep(0.01)
    first = time.monotonic() - begun
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"the run left alone ended with {process.exitcode}: {last_words(folder)}")
    step = (time.monotonic() - begun - first) / (steps - _EVERY)
    return first, step


def until_over(path: Path, folder: Path, moments: Moment, *, most: int, tamper: Tamper | None = None) -> Killed:
    """Start a run and kill it, `most` times, and go on with it until it is over."""
    killed = Killed()
    while True:
        killed.starts += 1
        resume = bool(checkpoints(folder / FOLDER))
        process = begin(path, folder, resume=resume, tamper=tamper)
        begun, due = time.monotonic(), moments(folder)
        while _status(process) is None:
            time.sleep(0.005)
            seconds = time.monotonic() - begun
            if killed.kills < most and due(seconds):
                workers = _children(process.pid)
                process.kill()
                process.join()
                if _status(process) == -9:
                    killed.kills += 1
                    killed.workers += len(workers)
                    killed.orphans += _alive_later(workers)
                    if killed.kills % 10 == 0:
                        print(f"  {killed.kills} kills, {checkpoints(folder / FOLDER)[-1:]}", flush=True)
            elif seconds > _HANGS and killed.kills >= most:
                process.kill()
                killed.failed = "the run hangs"
        if process.exitcode != -9 or killed.failed:
            if process.exitcode not in (0, -9):
                killed.failed = f"start {killed.starts} ended with {process.exitcode}: {last_words(folder)}"
            return killed


def _status(process: BaseProcess) -> int | None:
    return process.exitcode


def _children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive_later(pids: list[int]) -> int:
    """How many of these processes live a second later."""
    end = time.monotonic() + 1.0
    while (living := [pid for pid in pids if _alive(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    return len(living)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
