"""Tests of damaged and incomplete checkpoints: each is noticed, named and passed over, and none is a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from tests.support import small_config
from tests.support.damaged import LOST, Damage, flipped, overwritten, strangers, truncated, without
from tests.support.interrupted import Outcome
from tests.support.refusals import refusal
from tests.support.runs import verb
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, newest_checkpoint
from vlm_lit.training.checkpoint_io import DurableCheckpointIO, sound
from vlm_lit.training.checkpoint_manifest import is_sealed

NEWEST, BEFORE = "step-000003.ckpt", "step-000002.ckpt"
Config = Callable[..., Path]


@pytest.fixture(scope="module")
def written(tiny_llava: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run of three steps whose last two checkpoints are there."""
    folder = tmp_path_factory.mktemp("kept")
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    path = small_config.write(
        folder, tiny_llava, small, model={"lora": {"dropout": 0.1}}, trainer={"callbacks": [keeper]}
    )
    assert verb("fit", path) == 0
    return path


@pytest.fixture(scope="module")
def newest(written: Path) -> Path:
    """The last checkpoint of that run; not to be changed."""
    return written.parent / "run" / FOLDER / NEWEST


@pytest.fixture
def copied(newest: Path, tmp_path: Path) -> Path:
    """A run with both checkpoints, which may be changed."""
    folder = tmp_path / "run" / FOLDER
    folder.mkdir(parents=True)
    for name in (NEWEST, BEFORE):
        (folder / name).write_bytes((newest.parent / name).read_bytes())
    return folder.parent


def content_of(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


# Damage ----------------------------------------------------------------------------------------------------------


def damages(size: int) -> Iterator[Damage]:
    draw = Random(5)
    return chain(truncated(size, 40), flipped(size, 150, draw), overwritten(size, 30, draw))


def test_a_whole_checkpoint_is_found_whole(newest: Path) -> None:
    assert is_sealed(newest)
    assert sound(newest, resumes=True)["global_step"] == 3


def test_every_damage_is_noticed(newest: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / NEWEST, newest.read_bytes()
    unnoticed, said, seen = [], set(), 0
    for damage in damages(len(whole)):
        path.write_bytes(damage.done(whole))
        seen += 1
        try:
            sound(path, resumes=True)
        except ConfigError as error:
            said.add(len(str(error).splitlines()))
        else:
            unnoticed.append(damage.name)
    assert seen > 300
    assert said == {1}
    assert unnoticed == []


def test_archives_own_checksums_alone_would_not_notice_all(newest: Path, tmp_path: Path) -> None:
    # Negative control: what the manifest is for. Damage to the lists around the tensors is none to the tensors.
    path = tmp_path / NEWEST
    torch.save(content_of(newest), path)  # without a manifest, as earlier versions wrote it
    whole = path.read_bytes()
    assert sound(path, resumes=True)["global_step"] == 3
    unnoticed = 0
    for damage in flipped(len(whole), 150, Random(5)):
        path.write_bytes(damage.done(whole))
        try:
            found = sound(path, resumes=True)
        except ConfigError:
            continue
        unnoticed += 1
        same_content(found, content_of(newest))  # not seen, and harmless
    assert unnoticed > 0


def same_content(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same_content(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same_content(left, right)
    else:
        assert one == other


# What is missing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True], ids=["saved by torch", "saved as ours"])
@pytest.mark.parametrize("what", LOST)
def test_a_checkpoint_that_lacks_something_is_passed_over_with_a_word(
    what: str, sealed: bool, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / FOLDER / NEWEST
    content = without(content_of(path), what)
    if sealed:
        DurableCheckpointIO().save_checkpoint(content, path)
    else:
        torch.save(content, path)
    assert newest_checkpoint(copied).name == BEFORE
    said = capsys.readouterr().err
    assert f"{path} is no checkpoint to go on from: it lacks" in said
    assert LOST[what][0] in said


def test_one_of_another_program_is_passed_over_with_a_word(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / FOLDER / NEWEST
    for name, data in strangers(content_of(path)).items():
        path.write_bytes(data)
        assert newest_checkpoint(copied).name == BEFORE, name
        assert f"warning: {path} is no " in capsys.readouterr().err, name


def test_what_is_no_file_is_passed_over(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / FOLDER / NEWEST
    path.unlink()
    path.mkdir()
    assert newest_checkpoint(copied).name == BEFORE
    path.rmdir()
    os.mkfifo(path)  # whoever opens it waits for a writer
    assert newest_checkpoint(copied).name == BEFORE
    assert capsys.readouterr().err.count(f"{path} is no whole checkpoint") == 2


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    written: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / FOLDER / NEWEST
    path.write_bytes(path.read_bytes()[:-1])
    assert verb("fit", written, f"--run_dir={copied}", "--ckpt_path=last") == 0
    assert "Trying the one before it" in capsys.readouterr().err
    assert Outcome.of(copied).adapter_sha256 == Outcome.of(written.parent / "run").adapter_sha256


@pytest.mark.parametrize("what", ["loops", "position", "identity", "any optimizer"])
def test_one_that_is_named_is_refused_in_one_sentence(
    what: str, written: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / FOLDER / NEWEST
    torch.save(without(content_of(path), what), path)
    said = refusal(capsys, "fit", "--config", str(written), f"--run_dir={copied}", f"--ckpt_path={path}")
    assert LOST[what][0] in said


def test_weights_alone_are_enough_to_test_and_not_to_train(
    written: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / FOLDER / NEWEST
    content = content_of(path)
    for key in ("loops", "optimizer_states", "lr_schedulers"):
        del content[key]
    DurableCheckpointIO().save_checkpoint(content, path)
    options = ("--config", str(written), f"--run_dir={copied}", f"--ckpt_path={path}")
    assert verb("test", written, *options[2:]) == 0
    assert "counters of the loops, state of an optimizer" in refusal(capsys, "fit", *options)
    torch.save(without(content, "identity"), path)
    assert "identity of the base" in refusal(capsys, "test", *options)


# In Python ------------------------------------------------------------------------------------------------------------


def test_a_run_in_python_is_told_as_well(config: Config, newest: Path, tmp_path: Path) -> None:
    from tests.support.plain_runs import data_of, module_of, quiet_trainer

    path, whole = tmp_path / "own.ckpt", content_of(newest)
    resume = partial(_resumed, config(model={"lora": {"dropout": 0.1}}), quiet_trainer, module_of, data_of, path)
    torch.save(without(whole, "position"), path)
    with pytest.raises(ConfigError, match="it lacks position in the data"):
        resume(tmp_path / "a")
    content = deepcopy(whole)
    content["OtherDataModule"] = content.pop("ConversationDataModule")
    torch.save(content, path)
    with pytest.raises(ConfigError, match="ConversationDataModule"):
        resume(tmp_path / "b")
    path.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        resume(tmp_path / "c")


def _resumed(config: Path, trainer: Any, module: Any, data: Any, path: Path, folder: Path) -> None:
    trainer(folder, max_epochs=1).fit(module(config), datamodule=data(config), ckpt_path=path)
