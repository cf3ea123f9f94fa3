"""A SLURM of our own on this machine, for as long as the tests need it: one node and two partitions."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "sinfo")
_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=60
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs={cores} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF State=UP
"""


class Slurm:
    """What users type at it.

    Args:
        folder: its settings, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def typed(self, *words: str) -> str:
        """What a command of SLURM says."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}\n{self.logs()}"
        return done.stdout.strip()

    def submitted(self, *words: str, **variables: str) -> str:
        """The number of a job that is submitted; it sees these variables too."""
        own = [f"--export=ALL,{','.join(f'{name}={value}' for name, value in variables.items())}"] if variables else []
        return self.typed("sbatch", "--parsable", *own, *words)

    def said(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        told = self.typed("scontrol", "show", "job", job, "--oneliner")
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def until(self, job: str, *states: str, seconds: float = 300.0) -> dict[str, str]:
        """Wait for a job to be in one of these states; what SLURM then knows of it."""
        end = time.monotonic() + seconds
        while (said := self.said(job))["JobState"] not in states:
            assert time.monotonic() < end, f"{said}\n{self.logs()}"
            time.sleep(0.2)
        return said

    def logs(self) -> str:
        """The ends of what its daemons have written."""
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in sorted(self.folder.glob("*.log")))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A controller and a node."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no SLURM is installed ({', '.join(missing)} missing)")
    folder = Path(tempfile.mkdtemp(prefix="vlm_lit-slurm-"))  # a socket's path is short
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    conf = _CONF.format(
        host=host, controller=free_port(), node=free_port(), user=getpass.getuser(), folder=folder,
        cores=os.cpu_count(),
    )  # fmt: skip
    (folder / "slurm.conf").write_text(conf)
    found = Slurm(folder)
    daemons = []
    try:
        for words in (["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            log = subprocess.DEVNULL  # they write their own
            daemons.append(subprocess.Popen(words, env=found.environment, stdout=log, stderr=log, cwd=folder))
        _wait_for_node(found, daemons)
        yield found
    finally:
        for state in ("PENDING", "RUNNING"):  # none is left of a test that has passed
            words = ["scancel", f"--user={getpass.getuser()}", f"--state={state}"]
            subprocess.run(
                [*words, "--signal=KILL"] if state == "RUNNING" else words, env=found.environment, check=False
            )
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait()
        shutil.rmtree(folder)


def _wait_for_node(found: Slurm, daemons: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + 60
    while True:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=found.environment, capture_output=True, text=True, check=False
        )
        if asked.stdout.split()[:1] == ["idle"]:
            return
        alive = all(daemon.poll() is None for daemon in daemons)
        assert alive, found.logs()
        assert time.monotonic() < end, asked.stderr + found.logs()
        time.sleep(0.1)
