"""Flatness soak: memory, descriptors and threads of a long run, seen from outside, do not grow with steps."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Final

from soak_rows import Row
from soak_runs import begin, config, last_words, workbench

from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints

_IMAGES: Final = 16  # of eight questions each, so eight steps an epoch
_AN_EPOCH: Final = 8
_WITHIN: Final = 0.01  # of the memory in the first part
_A_LOOK: Final = 0.5  # seconds


def run(options: argparse.Namespace) -> list[Row]:
    """One row: the first third of a run's looks, after a tenth for warming up, against its last third."""
    folder: Path = options.folder.absolute() / "flat"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bench = workbench(folder / "workbench", _IMAGES)
    epochs = -(-options.steps // _AN_EPOCH)
    every = max(2, options.steps // 60)
    path = config(folder / "run.yaml", bench, epochs=epochs, every_n_steps=every, validate_every=every)
    process, looks = begin(path, folder / "run", resume=False), list[tuple[int, int, int]]()
    while process.exitcode is None:
        time.sleep(_A_LOOK)
        if checkpoints(folder / "run" / FOLDER) and (look := _look(process.pid)) is not None:
            looks.append(look)
    if process.exitcode != 0:
        here = f"the run ended with {process.exitcode}: {last_words(folder / 'run')}"
        return [Row(promise=15, figure=f"{options.steps} steps", here=here, held=False)]
    looks = looks[len(looks) // 10 : -2]  # at its end a run closes what it has
    early, late = looks[: len(looks) // 3], looks[-(len(looks) // 3) :]
    was, now = ([median(look[i] for look in part) for i in range(3)] for part in (early, late))
    growth = now[0] / was[0] - 1
    what = f"one run of {epochs * _AN_EPOCH} steps with two workers, a checkpoint and a validation every {every}"
    here = (
        f"memory {was[0] / 2**20:.1f} MiB, then {now[0] / 2**20:.1f} MiB ({growth:+.2%}); descriptors {was[1]:.0f}, "
        f"then {now[1]:.0f}; threads {was[2]:.0f}, then {now[2]:.0f} (medians of the first and last third, "
        f"{len(looks)} looks)"
    )
    held = growth <= _WITHIN and now[1] <= was[1] and now[2] <= was[2]
    return [Row(promise=15, figure=what, here=here, held=held)]


def _look(pid: int | None) -> tuple[int, int, int] | None:
    """Resident bytes, descriptors and threads of a process; None once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        resident = int(fields["VmRSS"].split()[0]) * 1024
        return resident, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(fields["Threads"])
    except (OSError, KeyError):
        return None
