"""Tests of a run on two machines, started by the script for it: the same result as one process, and a killed one.

The machines are two network namespaces joined by a cable, where this process may make some (root, Linux); else two
groups of processes on this machine, which differ from it in sharing an address. Real torchrun, real processes, gloo.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.runs import fit
from tests.support.two_processes import check_as_one, fifteen_steps, left
from vlm_lit.training.rank_links import STATUS

pytestmark = pytest.mark.slow

Config = Callable[..., Path]
SCRIPT = Path(__file__).parents[2] / "scripts" / "cluster" / "torchrun_fit.sh"


class Machines:
    """Two machines and what runs a command on each.

    Args:
        names: of their network namespaces; empty where there are none.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def fit(self, config: Path, folder: Path, *more: str) -> list[subprocess.Popen[str]]:
        """A run on both, one device each."""
        started = []
        for number in range(2):
            prefix = ["ip", "netns", "exec", self.names[number]] if self.names else []
            own = {
                "MACHINES": "2", "NUMBER": str(number), "DEVICES": "1", "PYTHON": sys.executable, "PORT": "29517",
                "HEAD": "10.77.0.1" if self.names else "127.0.0.1", "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": f"cable{number}" if self.names else "lo",
            }  # fmt: skip
            words = [*prefix, "bash", str(SCRIPT), "--config", str(config), "--run_dir", str(folder), *more]
            started.append(
                subprocess.Popen(
                    words, env={**os.environ, **own}, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
                )
            )
        return started


def ended(processes: list[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str]]:
    """The status and the output of each; those that have not ended by then are killed, and the test fails."""
    until, found = time.monotonic() + seconds, []
    try:
        for process in processes:
            said, _ = process.communicate(timeout=max(1.0, until - time.monotonic()))
            found.append((process.returncode, said))
    finally:
        for process in processes:
            process.kill()
    return found


def _namespaces(names: tuple[str, ...]) -> bool:
    """Whether two namespaces of these names could be made, with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    commands = [f"ip netns add {name}" for name in names]
    commands.append(f"ip link add cable0 netns {names[0]} type veth peer name cable1 netns {names[1]}")
    for number, name in enumerate(names):
        commands += [
            f"ip -n {name} addr add 10.77.0.{number + 1}/24 dev cable{number}",
            f"ip -n {name} link set cable{number} up",
            f"ip -n {name} link set lo up",
        ]
    return all(subprocess.run(words.split(), capture_output=True, check=False).returncode == 0 for words in commands)


@pytest.fixture
def machines() -> Iterator[Machines]:
    names = tuple(f"vlm_lit_{os.getpid()}_{number}" for number in range(2))
    made = _namespaces(names)
    yield Machines(names if made else ())
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False) if made else None


@pytest.fixture
def path(config: Config) -> Path:
    return fifteen_steps(config)


def test_two_machines_are_one_process_and_go_on_behind_a_killed_one(
    machines: Machines, path: Path, tmp_path: Path
) -> None:
    whole = machines.fit(path, tmp_path / "whole")
    fit(path, "--run_dir", str(tmp_path / "one"))
    for status, said in ended(whole, 300):
        assert status == 0, said[-3000:]
    check_as_one(tmp_path / "whole", tmp_path / "one")

    killed = machines.fit(path, tmp_path / "killed")
    while not (tmp_path / "killed" / "checkpoints" / "step-000002.ckpt").exists():
        assert [process.poll() for process in killed] == [None, None], killed[0].communicate()[0][-3000:]
        time.sleep(0.01)
    (worker,) = Path(f"/proc/{killed[1].pid}/task/{killed[1].pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    (first, said), (second, _) = ended(killed, 60)
    assert (first, second) == (STATUS, 1), said[-3000:]
    assert "Process 1 of 2 has died" in said

    for status, said in ended(machines.fit(path, tmp_path / "killed", "--ckpt_path", "last"), 300):
        assert status == 0, said[-3000:]
    assert left(tmp_path / "killed") == left(tmp_path / "whole")  # to the last bit
