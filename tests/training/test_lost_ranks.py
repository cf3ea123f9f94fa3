"""Tests of a rank that dies: the others end with a sentence, and soon. Real processes over gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.support.interrupted import start
from vlm_lit.training.rank_links import STATUS, RankLinks

Config = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize(("dies", "strategy"), [(0, "ddp"), (1, "ddp"), (0, "frozen_sharded")])
def test_the_others_end_with_a_sentence(dies: int, strategy: str, config: Config, tmp_path: Path) -> None:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    path, folder = config(trainer={"callbacks": [keeper], "max_epochs": 50}), tmp_path / "run"
    words = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(path), "--run_dir", str(folder)]
    ranks = [f"--trainer.strategy={strategy}", "--trainer.devices=2"]
    process = subprocess.Popen([*words, *ranks], stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not (folder / "checkpoints" / "step-000002.ckpt").exists():
        time.sleep(0.01)
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[:1]
    os.kill(process.pid if dies == 0 else int(other), signal.SIGKILL)
    # Until the last process that holds stderr has ended.
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if dies == 0 else STATUS), said
    assert said.count(f"error: Process {dies} of 2 has died") == 1, said
    assert "Traceback" not in said


def _waits_for_ever(rank: int, world: int, port: int, ready: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world)
    RankLinks(rank, world, machines=1).open()
    (ready / str(rank)).touch()
    time.sleep(300)  # as a collective of NCCL does


@pytest.mark.parametrize("dies", [0, 2])
def test_one_that_hangs_in_a_collective_is_ended(dies: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [start(_waits_for_ever, rank, 3, port, tmp_path) for rank in range(3)]
    while len(list(tmp_path.iterdir())) < 3 and all(process.exitcode is None for process in processes):
        time.sleep(0.05)
    processes[dies].kill()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [-9 if rank == dies else STATUS for rank in range(3)]
