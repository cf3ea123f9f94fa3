"""Tests of disks that refuse: one sentence, status 2, nothing good lost, and the run goes on once there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.interrupted import Outcome
from tests.support.small_disks import refused, small_disk, typed
from vlm_lit.files.whole import write_folder_whole
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints, newest_checkpoint

Config = Callable[..., Path]
KEEPER = {
    "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
    "init_args": {"every_n_steps": 1},
}


@pytest.fixture
def path(config: Config) -> Path:
    return config(model={"lora": {"dropout": 0.1}}, trainer={"max_epochs": 2, "callbacks": [KEEPER]})


@pytest.fixture
def never_stopped(path: Path, tmp_path: Path) -> Outcome:
    """The run on a disk with room."""
    status, said = typed(tmp_path / "log", "fit", "--config", path, "--run_dir", tmp_path / "whole")
    assert status == 0, said
    return Outcome.of(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_on_a_full_disk_goes_on_where_it_was_once_there_is_room(
    path: Path, never_stopped: Outcome, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "700k") as disk:
        run, log = disk.folder / "run", tmp_path / "log"
        fit = ("fit", "--config", path, "--run_dir", run)
        error = refused(log, *fit)
        assert "the disk is full. Free some space" in error
        kept = newest_checkpoint(run)
        assert f"The last step that is kept is in {kept}" in log.read_text()
        assert sorted(p.name for p in (run / FOLDER).iterdir()) == [p.name for p in checkpoints(run / FOLDER)]
        # Still no room: it is said again, and what is there stays.
        assert "the disk is full" in refused(log, *fit, "--ckpt_path", "last")
        assert newest_checkpoint(run) == kept
        disk.remount("size=20m")
        status, said = typed(log, *fit, "--ckpt_path", "last")
        assert status == 0, said
        assert Outcome.of(run) == never_stopped


@pytest.mark.slow
def test_a_run_whose_files_may_not_become_that_large(path: Path, never_stopped: Outcome, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = ("fit", "--config", path, "--run_dir", run)
    error = refused(log, *fit, largest_file=100_000)
    assert "step-000001.ckpt cannot be written: files may not become that large here. See `ulimit -f`" in error
    assert "No optimizer step was finished" in log.read_text() or not checkpoints(run / FOLDER)
    assert list((run / FOLDER).iterdir()) == []
    status, said = typed(log, *fit)
    assert status == 0, said
    assert Outcome.of(run) == never_stopped


def test_a_run_on_a_disk_that_becomes_read_only(path: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "20m") as disk:
        run, log = disk.folder / "run", tmp_path / "log"
        fit = ("fit", "--config", path, "--run_dir", run)
        assert typed(log, *fit, "--trainer.max_steps=2")[0] == 0
        disk.remount("ro")
        assert "its disk is read-only. Write elsewhere" in refused(log, *fit, "--ckpt_path", "last")
        assert "its disk is read-only" in refused(log, "fit", "--config", path, "--run_dir", disk.folder / "other")
        assert newest_checkpoint(run).name == "step-000002.ckpt"
        disk.remount("rw")


def test_an_adapter_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    def of(numbers: int) -> Callable[[Path], None]:
        # safetensors says it in an error of its own
        return lambda folder: save_file({"w": torch.ones(numbers)}, folder / "adapter_model.safetensors")

    with small_disk(tmp_path / "disk", "300k") as disk:
        adapter = disk.folder / "adapter"
        write_folder_whole(adapter, of(10_000), replace=True)
        before = (adapter / "adapter_model.safetensors").read_bytes()
        with pytest.raises(OSError, match="No space left on device") as error:
            write_folder_whole(adapter, of(100_000), replace=True)
        assert error.value.filename == str(adapter)
        assert (adapter / "adapter_model.safetensors").read_bytes() == before
        assert [p.name for p in disk.folder.iterdir()] == ["adapter"]


def test_a_merge_that_finds_no_room_leaves_nothing(config: Config, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert typed(log, "fit", "--config", config(), "--run_dir", run)[0] == 0
    with small_disk(tmp_path / "disk", "400k") as disk:
        output = disk.folder / "model"
        assert "MB on the disk of" in refused(log, "merge", run, "--output", output)  # by the weights alone
        assert list(disk.folder.iterdir()) == []
        disk.remount("size=20m")
        assert typed(log, "merge", run, "--output", output)[0] == 0
        assert [p.name for p in disk.folder.iterdir()] == ["model"]
