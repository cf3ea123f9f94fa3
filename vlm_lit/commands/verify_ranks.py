"""Processes that `verify` starts, as torchrun would, to compute a step together; and one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vlm_lit.preflight.equality import Equality
    from vlm_lit.preflight.shared_step import Measures

_SECONDS: Final = 1800.0
_ROOM: Final = 2**30
"""Bytes of a process besides its model."""


def ranks_equalities(measures: Measures, count: int, of_fit: Sequence[str], *, wanted: bool) -> list[Equality]:
    """Equalities 5 and 10: two processes against this one, which has the model loaded.

    Args:
        measures: has the items, and the module whose weights were moved.
        count: how many items were asked for.
        of_fit: the command line's arguments for fit.
        wanted: whether the processes are to be started.
    """
    from vlm_lit.preflight.shared_step import CLAIMS, Shared, not_checked

    reason = "--ranks 1" if not wanted else _reason(measures)
    if reason is not None:
        return [not_checked(name, reason) for name in CLAIMS]
    from vlm_lit.preflight.equality import way
    from vlm_lit.training.protocols import Trains

    assert isinstance(measures.module, Trains)
    alone = way(measures.module, measures.module.loss, measures.step_of(measures.items))
    with TemporaryDirectory() as folder:
        shared = Shared(Path(folder))
        shared.keep_weights(measures.module)
        accelerator = "cpu" if measures.module.device.type == "cpu" else "gpu"
        task = {"of_fit": list(of_fit), "count": count, "accelerator": accelerator}
        (shared.folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        trouble = _started(shared.folder)
        found = [(name, shared.equality(name, alone, measures.tolerance, len(measures.items))) for name in CLAIMS]
        return [one if one is not None else not_checked(name, trouble, "DIFFERENT") for name, one in found]


def _reason(measures: Measures) -> str | None:
    """Why two processes cannot compute here."""
    import torch

    from vlm_lit.preflight.shared_step import WORLD
    from vlm_lit.training.memory import free_memory

    kind = measures.module.device.type
    if len(measures.items) < WORLD:
        return "it takes two items"
    if kind not in ("cpu", "cuda"):
        return f"nobody has tried two processes on {kind}; --trainer.accelerator cpu checks it on the CPU"
    if kind == "cuda":
        there = torch.cuda.device_count()
        return None if there >= WORLD else "it takes two GPUs, and there is one; --trainer.accelerator cpu does without"
    size = sum(p.nbytes for p in [*measures.module.parameters(), *measures.module.buffers()])
    needed, free = WORLD * (2 * size + _ROOM), free_memory(measures.module.device)
    if free is not None and free < needed:
        return f"two more processes need about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free"
    return None


def _started(folder: Path) -> str:
    """Start the processes and wait for them; what the first that failed said last."""
    from vlm_lit.preflight.shared_step import WORLD

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A scheduler's own variables would say how many there are, and which this is.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "PMI_", "OMPI_"))}
    threads = own.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // WORLD))
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": threads}
    own |= {"WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD), "GROUP_RANK": "0"}
    own |= {"TORCHELASTIC_RUN_ID": "verify"}
    running = []
    for rank in range(WORLD):
        with (folder / f"said{rank}").open("w") as said:
            command = [sys.executable, "-m", "vlm_lit.commands.verify_ranks", str(folder)]
            environment = {**own, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            running.append(subprocess.Popen(command, env=environment, stdout=said, stderr=said))
    try:
        return next(_troubles(folder, running), "")
    finally:
        for process in running:
            process.kill()
            process.wait()


def _troubles(folder: Path, running: Sequence[subprocess.Popen[bytes]]) -> Iterator[str]:
    """What is wrong with a process that failed, as soon as one has; the others would wait for it."""
    left, until = dict(enumerate(running)), time.monotonic() + _SECONDS
    while left:
        for rank, process in list(left.items()):
            status = process.poll()
            if status is None:
                continue
            del left[rank]
            if status:
                yield f"process {rank} ended with status {status}: {_last_words(folder / f'said{rank}')}"
        if time.monotonic() > until:
            yield f"the processes did not end within {_SECONDS:.0f} seconds"
        time.sleep(0.1)


def _last_words(said: Path) -> str:
    """The last error that a process has named, without torch's prefix; behind it torch may warn of what it left."""
    lines = said.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
    return last.rpartition("]: ")[2][:300]


def _rank(folder: Path) -> None:
    """What one of the processes does."""
    import torch.distributed as dist

    from vlm_lit.commands.verify_measured import measured
    from vlm_lit.data.rank_share import RankShare
    from vlm_lit.preflight.shared_step import WORLD, Shared, measure_together

    task: dict[str, Any] = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    places = {"strategy": "ddp", "devices": str(WORLD), "num_nodes": "1", "accelerator": task["accelerator"]}
    words = [word for name, value in places.items() for word in (f"--trainer.{name}", value)]
    measures, trainer = measured([*task["of_fit"], *words], task["count"], join=True)
    with trainer.precision_plugin.train_step_context():
        measure_together(measures, Shared(folder), RankShare(int(os.environ["RANK"]), WORLD))
    dist.destroy_process_group()


if __name__ == "__main__":
    _rank(Path(sys.argv[1]))
