"""`study run`: run the cells of a study that are not finished, alone or beside other workers."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.commands.study_progress import Progress
from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from vlm_lit.studies.running.queue import Queue
    from vlm_lit.studies.running.study_file import Study


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options and work; the exit status: 1 where a cell failed."""
    from vlm_lit.studies.running.storage import named_queue_errors

    options = _parser(verb).parse_args(arguments)
    with _stopped_by_signals() as stop, named_queue_errors():
        try:
            return _run(options, stop)
        except SystemExit:
            _run_again()
            raise


def _run_again() -> None:
    """Have SLURM run this worker again where another job takes its place."""
    from vlm_lit.training.slurm_job import preempted, requeue

    if preempted():
        requeue()


def _parser(verb: str) -> OptionParser:
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the study's YAML file")
    parser.add_argument(
        "--storage", metavar="URL",
        help="postgresql+psycopg://USER:PASSWORD@HOST/DATABASE for several machines that share the study's folder; "
        "otherwise a file in that folder",
    )  # fmt: skip
    parser.add_argument("--workers", type=whole_number(1), default=1, help="how many to start here")
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="these alone: rank=16,targets=all or .../seed=0")
    parser.add_argument("--retry", action="store_true", help="try again what failed, from its last checkpoint")
    parser.add_argument(
        "--heartbeat", type=whole_number(1), default=10, help="seconds between two signs of a worker's life"
    )
    parser.add_argument(
        "--grace", type=whole_number(1), default=60, help="seconds of silence after which others take over its cell"
    )
    parser.add_argument("--quiet", action="store_true", help="show neither progress nor what failed")
    return parser


def _run(options: argparse.Namespace, stop: _Stop) -> int:
    from vlm_lit.studies.running.queue import Queue
    from vlm_lit.studies.running.storage import Heartbeat
    from vlm_lit.studies.running.study_file import read_study
    from vlm_lit.studies.running.worker import Worker

    study = read_study(options.file)
    heartbeat = Heartbeat(every=options.heartbeat, grace=options.grace)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    with Queue(study, options.storage, heartbeat=heartbeat, worker=worker) as queue:
        chosen = None if options.cells is None else _chosen(study, queue, options.cells)
        with Progress(queue, chosen, quiet=options.quiet) as progress:

            def on_tick() -> None:
                stop.check()
                progress.tick()

            if options.workers == 1:
                Worker(queue=queue, heartbeat=heartbeat, on_tick=on_tick, chosen=chosen).work(retry=options.retry)
            else:
                queue.refill(retry=options.retry)
                _workers(options, on_tick)
        return _ended(queue, chosen, quiet=options.quiet)


def _workers(options: argparse.Namespace, on_tick: Callable[[], None]) -> None:
    """Workers in processes of their own, started by the same command as any other."""
    from vlm_lit.studies.running.child_process import run_children

    words = [sys.executable, "-m", "vlm_lit", "study", "run", str(options.file), "--quiet"]
    words += ["--heartbeat", str(options.heartbeat), "--grace", str(options.grace)]
    words += [] if options.storage is None else ["--storage", options.storage]
    words += [] if options.cells is None else ["--cells", *options.cells]
    statuses = run_children([words] * options.workers, on_tick=on_tick)
    for number, status in enumerate(statuses, start=1):
        if status not in (0, 1):  # 1: a cell failed, which is said below
            print(f"warning: worker {number} ended with status {status}.", file=sys.stderr)


def _ended(queue: Queue, chosen: set[str] | None, *, quiet: bool) -> int:
    """Say which cells failed or are left."""
    states = queue.states()
    failed = [place for place, state in states.items() if state == "failed" and (chosen is None or place in chosen)]
    file = queue.study.file
    if failed and not quiet:
        print(
            f"{len(failed)} failed: {', '.join(failed[:3])}{', ...' if len(failed) > 3 else ''}. "
            f"See: python -m vlm_lit study status {file}. Try again: study run {file} --retry",
            file=sys.stderr,
        )
    left = queue.open_places(chosen)
    if left and not quiet:
        print(f"{left} unfinished. The same command goes on where they stopped.", file=sys.stderr)
    return 1 if failed or left else 0


def _chosen(study: Study, queue: Queue, names: Sequence[str]) -> set[str]:
    """The places that `--cells` names: a cell's name stands for all its seeds."""
    if study.search is not None:
        raise ConfigError("--cells: a search draws its cells; there are none to choose from. Leave it out.")
    chosen: set[str] = set()
    for name in names:
        found = {place for place, job in queue.jobs.items() if name in (place, job.cells[0].name)}
        if not found:
            first = next(iter(queue.jobs.values())).cells[0]
            raise ConfigError(f"--cells {name} names no cell of {study.name}. One is {first.name}, or {first.key}.")
        chosen |= found
    return chosen


class _Stop:
    """Which signal told this process to stop, if one did; as a handler it raises."""

    def __init__(self) -> None:
        self._number: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> NoReturn:
        self._number = number
        raise SystemExit(128 + number)

    def check(self) -> None:
        """Raise again: Python drops what a handler raises inside a hook of fork or a finalizer."""
        if self._number is not None:
            raise SystemExit(128 + self._number)


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    """Being told to stop, by a key, by a scheduler or by a terminal's end: the cell is given back at once."""
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
