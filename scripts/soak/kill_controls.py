"""Negative controls of the kill soak: a piece of the resumption is left out, and the run must end differently."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kill_soak import AN_EPOCH, found_different, short_config, timed, until_over
from soak_rows import Row
from soak_runs import Trace, workbench


def _forget_the_position() -> None:
    from vlm_lit.data.step_datamodule import StepDataModule

    StepDataModule.load_state_dict = lambda *_: None  # type: ignore[method-assign]


def _draw_dropout_in_sequence() -> None:
    import itertools

    import vlm_lit.training.step as step

    counter = itertools.count()
    step.derive_seed = lambda *_: next(counter)  # type: ignore[attr-defined]


def _show_what_was_not_kept() -> None:
    from vlm_lit.training.run_logger import RunLogger

    RunLogger.void_earlier = lambda *_: None  # type: ignore[method-assign]


_CONTROLS: Final = {
    "the position in the data is not restored": _forget_the_position,
    "dropout is drawn from one generator": _draw_dropout_in_sequence,
    "curves behind the checkpoint are not voided": _show_what_was_not_kept,
}


def run(options: argparse.Namespace) -> list[Row]:
    """Each control over a short run that is killed twice in the middle of its steps."""
    folder: Path = options.folder.absolute() / "controls"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps = 3 * AN_EPOCH
    path = short_config(folder / "short.yaml", workbench(folder / "workbench", 16), 3)

    def behind_a_checkpoint(run: Path) -> Callable[[float], bool]:
        before = len(_steps_seen(run))
        return lambda _: len(_steps_seen(run)) >= before + 5

    rows = []
    for number, (words, tamper) in enumerate(_CONTROLS.items()):
        alone, killed = folder / f"control{number}-alone", folder / f"control{number}-killed"
        timed(path, alone, steps, tamper)
        done = until_over(path, killed, behind_a_checkpoint, most=2, tamper=tamper)
        different = [done.failed] if done.failed else Trace.of(alone).differences(Trace.of(killed))
        rows.append(
            Row(
                promise=2 if "curves" in words else 1,
                figure=f"negative control, {done.kills} kills: {words}",
                here=found_different(different, "no difference seen, so the comparison is blind"),
                held=bool(different),
            )
        )
    return rows


def _steps_seen(run: Path) -> list[int]:
    """Steps in a run's curve of its loss so far, each as often as it stands there in any file."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = []
    for path in run.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            found += [event.step for value in event.summary.value if value.tag == "train/loss"]
    return found
