"""Tests of a batch that a data worker cannot hand over: the run ends with a sentence, where it waited for ever."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_IN_A_SMALL_ONE = 'mount -t tmpfs -o size=100k tmpfs /dev/shm && exec "$@"'


def test_shared_memory_without_room_ends_the_run_with_a_sentence(config: Callable[..., Path]) -> None:
    own = ["unshare", "--mount", "sh", "-c", _IN_A_SMALL_ONE, "sh"]  # a /dev/shm that this process alone sees
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    path = config(data={"num_workers": 2, "effective_batch": 16, "micro_batch": 16})
    command = [*own, sys.executable, "-m", "vlm_lit", "fit", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be handed over" in error
    assert "--shm-size" in error
    assert "Traceback" not in done.stderr
