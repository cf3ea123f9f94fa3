"""Tests of checkpoint files: whole or absent whatever happens to the writer, harmless whatever is in them."""

from __future__ import annotations

import os
import pickle
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.interrupted import start
from tests.support.runs import fit, run_dir, verb
from vlm_lit.errors import ConfigError
from vlm_lit.files.staged import sweep
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints, newest_checkpoint
from vlm_lit.training.checkpoint_content import COUNTERS
from vlm_lit.training.checkpoint_io import DurableCheckpointIO, checked_step

Config = Callable[..., Path]


def state(step: int, numbers: int = 10) -> dict[str, object]:
    """As of a user's own module."""
    return {
        "global_step": step,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {"w": torch.full((numbers,), float(step))},
        "weights": torch.full((numbers,), float(step)),
        "loops": {"fit_loop": {name: {} for name in COUNTERS}},
        "optimizer_states": [{"state": {}, "param_groups": [{"params": [0]}]}],
    }


def save(step: int, path: Path, numbers: int = 10) -> Path:
    DurableCheckpointIO().save_checkpoint(state(step, numbers), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing --------------------------------------------------------------------------------------------------------


def save_with_little_room(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    # Of several tensors, where torch says "unexpected pos" of what the disk refused.
    more = {**state(2), "moments": [torch.ones(200_000) for _ in range(20)]}
    with pytest.raises(OSError, match="File too large") as error:
        DurableCheckpointIO().save_checkpoint(more, path)
    assert error.value.filename == str(path)


def test_the_old_file_stays_when_there_is_no_room_for_the_new(tmp_path: Path) -> None:
    path = save(1, tmp_path / "step-000001.ckpt")
    writer = start(save_with_little_room, path)
    writer.join()
    assert writer.exitcode == 0
    assert checked_step(path) == 1
    assert names(tmp_path) == ["step-000001.ckpt"]


def test_a_refused_permission_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(1, tmp_path / "step-000001.ckpt")

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        save(2, path)
    assert checked_step(path) == 1
    assert names(tmp_path) == ["step-000001.ckpt"]


def save_for_ever(path: Path) -> None:
    for step in range(1, 1_000_000):
        save(step, path, numbers=1_000_000)


def test_a_killed_writer_never_leaves_a_torn_file(tmp_path: Path) -> None:
    path, orphans = tmp_path / "step-000001.ckpt", 0
    for attempt in range(10):
        path.unlink(missing_ok=True)
        writer = start(save_for_ever, path)
        while not path.exists():
            time.sleep(0.001)
        time.sleep(0.003 * attempt)
        writer.kill()
        writer.join()
        loaded = DurableCheckpointIO().load_checkpoint(path)
        assert checked_step(path) == loaded["global_step"]
        assert bool((loaded["weights"] == loaded["global_step"]).all())
        orphans += len(names(tmp_path)) > 1
        sweep(tmp_path)
        assert names(tmp_path) == [path.name]
    assert orphans > 0  # else no kill fell into a writing, and this test has shown nothing


def test_a_run_sweeps_its_folder_when_it_starts(config: Config) -> None:
    path = config()
    folder = run_dir(path) / FOLDER
    folder.mkdir(parents=True)
    # Process numbers end below this on every system.
    (folder / ".step-000002.ckpt.tmp-2000000000").touch()
    fit(path, "--trainer.max_steps=1")
    assert names(folder) == ["step-000001.ckpt"]


# Reading --------------------------------------------------------------------------------------------------------


class Evil:
    """Touches a file when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("wrapped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_runs(
    wrapped: bool, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    content = {"global_step": 1, "state_dict": Evil(canary)}
    if wrapped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    assert verb("fit", config(), "--ckpt_path", str(path)) == 2
    said = capsys.readouterr().err
    assert "is no whole checkpoint (" in said
    assert "weights_only" not in said
    with pytest.raises(ConfigError, match="is no whole checkpoint"):
        DurableCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not canary.exists()


def test_every_damage_is_seen(tmp_path: Path) -> None:
    path = save(3, tmp_path / "step-000003.ckpt", numbers=5000)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="no whole checkpoint"):
            checked_step(path)
    at = whole.index(torch.full((5000,), 3.0).numpy().tobytes())
    for offset in range(at, at + 20_000, 500):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(ConfigError, match="no whole checkpoint"):
            checked_step(path)
    path.write_bytes(whole)
    assert checked_step(path) == 3


def test_last_passes_over_a_damaged_checkpoint_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (4, 8, 12):
        save(step, tmp_path / FOLDER / f"step-{step:06d}.ckpt")
    torn = tmp_path / FOLDER / "step-000012.ckpt"
    torn.write_bytes(torn.read_bytes()[:-100])
    assert newest_checkpoint(tmp_path).name == "step-000008.ckpt"
    assert f"{torn} is no whole checkpoint" in capsys.readouterr().err


def test_last_without_a_whole_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = save(4, tmp_path / FOLDER / "step-000004.ckpt")
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="holds no whole checkpoint"):
        newest_checkpoint(tmp_path)


# Keeping --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_run_in_a_used_folder_leaves_its_own_state_as_the_last(config: Config) -> None:
    # Were the earlier run's files kept, `last` would go on from them without a word.
    path = config()
    fit(path, "--trainer.max_epochs=2")
    folder = run_dir(path) / FOLDER
    assert [p.name for p in checkpoints(folder)] == ["step-000003.ckpt", "step-000006.ckpt"]
    fit(path, "--overwrite")
    assert [p.name for p in checkpoints(folder)] == ["step-000003.ckpt"]
