"""Tests of resuming a run: only with what it began with, and for longer where that is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.support.refusals import to_stderr
from tests.support.runs import checkpoint, fit, run_dir, scalars, verb
from vlm_lit.cli import main
from vlm_lit.models.adapter_state import file_sha256
from vlm_lit.training.run_settings import number_settings

Config = Callable[..., Path]


@pytest.fixture
def begun(config: Config) -> Path:
    """The config of a run that has come to step 3 of 3."""
    path = config(trainer={"limit_val_batches": 0})
    assert verb("fit", path) == 0
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of a command that has to fail with status 2; one of many settings is longer than others may be."""
    to_stderr()
    capsys.readouterr()
    assert main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def resumed(path: Path, *more: str) -> list[str]:
    return ["fit", "--config", str(path), "--ckpt_path", "last", *more]


CHANGES = {
    "--model.init_args.learning_rate=0.1": "model.init_args.learning_rate (was 0.001, is 0.1)",
    "--model.init_args.gradient_clip=null": "model.init_args.gradient_clip (was 1.0, is null)",
    "--model.init_args.optimizer=torch.optim.SGD": (
        "model.init_args.optimizer.class_path (was torch.optim.AdamW, is torch.optim.SGD)."
    ),
    "--model.init_args.lora.rank=4": "model.init_args.lora.rank (was 16, is 4)",
    "--data.init_args.prompt={question}?": "data.init_args.prompt (was null, is {question}?)",
    "--data.init_args.max_length=100": "data.init_args.max_length (was auto, is 100)",
    "--data.init_args.train.limit=8": "data.init_args.train.limit (was null, is 8)",
    "--data.init_args.train.path=nowhere/at-all": "data.init_args.train.path (was not set, is nowhere/at-all)",
    "--seed_everything=8": "seed_everything (was 7, is 8)",
    '--trainer.callbacks+={"class_path": "lightning.pytorch.callbacks.EarlyStopping", '
    '"init_args": {"monitor": "train/loss"}}': "trainer.callbacks.EarlyStopping.monitor (was not set, is train/loss)",
}


@pytest.mark.slow
def test_what_changes_the_numbers_is_refused_by_its_name_and_two_values(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, said in CHANGES.items():
        error = refusal(capsys, *resumed(begun, option, "--trainer.max_epochs=2"))
        assert f"step-000003.ckpt was made with another {said}" in error
        assert "adapter" in {path.name for path in run_dir(begun).iterdir()}


@pytest.mark.slow
def test_what_cannot_change_them_is_not(begun: Path) -> None:
    keeper = {"class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint", "init_args": {"keep": 5}}
    options = (
        "--data.init_args.num_workers=1", "--data.init_args.micro_batch=2", "--data.init_args.eval_batch=3",
        "--data.init_args.test=null", "--trainer.log_every_n_steps=2", f"--trainer.callbacks+={json.dumps(keeper)}",
        "--model.init_args.activation_checkpointing=false",
    )  # fmt: skip
    assert verb("fit", begun, "--ckpt_path", "last", *options) == 0


@pytest.mark.slow
def test_data_that_lie_elsewhere_are_the_same_and_changed_ones_are_not(
    begun: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(small, moved)
    paths = [f"--data.init_args.{split}.path={moved / name}" for split, name in
             (("train", "train.json"), ("val", "val.json"), ("test", "val.json"))]  # fmt: skip
    assert verb("fit", begun, "--ckpt_path", "last", *paths) == 0
    file = moved / "train.json"
    file.write_text(file.read_text().replace("lamp 0", "lamp 3"))  # of the same length
    error = refusal(capsys, *resumed(begun, *paths))
    size = file.stat().st_size
    assert f"The train data are not those that the checkpoint was made with: train.json (was {size} bytes, " in error


@pytest.mark.slow
def test_the_course_of_a_run_without_a_config_is_compared_as_well(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As of a checkpoint that a script's own Trainer has written: it holds no settings.
    path = run_dir(begun) / "checkpoints" / "step-000003.ckpt"
    content = torch.load(path, weights_only=True)
    del content["settings"]
    torch.save(content, path)
    for option, said in {
        "--model.init_args.gradient_clip=0.5": "gradient_clip (was 1.0, is 0.5). ",
        "--model.init_args.lora.rank=4": "lora.rank (was 16, is 4). ",
        "--data.init_args.system=Be brief.": "system (was null, is Be brief.). ",
    }.items():
        assert f"made with another {said}" in refusal(capsys, *resumed(begun, option))


def test_settings_are_named_as_they_are_typed(begun: Path) -> None:
    whole = yaml.safe_load((run_dir(begun) / "config.yaml").read_text())
    kept = checkpoint(run_dir(begun), 3)["settings"]
    assert kept == number_settings(whole)
    assert kept["model.init_args.parts.projector.training"] == "full"
    assert kept["trainer.precision"] == whole["trainer"]["precision"]
    assert not any("run_dir" in name or "logger" in name or "num_workers" in name for name in kept)


# Training on ----------------------------------------------------------------------------------------------


def adapter(path: Path) -> str:
    return file_sha256(run_dir(path) / "adapter" / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("longer", ["--trainer.max_epochs=3", "--trainer.max_steps=7"])
def test_a_finished_run_trains_on_as_if_it_had_never_ended(longer: str, config: Config) -> None:
    # A constant rate does not depend on the run's length, so the longer run from the start has to be the same.
    options = {"model": {"schedule": "constant", "lora": {"dropout": 0.1}}}
    epochs = {"max_epochs": 3} if "max_steps" in longer else {"max_epochs": 1}
    path = config(**options, trainer={**epochs, **({"max_steps": 3} if "max_steps" in longer else {})})
    fit(path)
    assert verb("fit", path, "--ckpt_path", "last", longer) == 0
    figures, weights = scalars(run_dir(path)), adapter(path)
    shutil.rmtree(run_dir(path))
    fit(path, longer)
    whole = scalars(run_dir(path))
    for name in ("train/loss", "train/learning_rate/projector", "val/vqa_accuracy"):
        assert figures[name] == whole[name]
    assert weights == adapter(path)


@pytest.mark.slow
def test_the_course_of_a_schedule_that_is_stretched_is_said(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config()
    fit(path)
    before = scalars(run_dir(path))
    to_stderr()
    assert verb("fit", path, "--ckpt_path", "last", "--trainer.max_epochs=2") == 0
    said = capsys.readouterr().err
    assert (
        "Training on from step 3: 6 steps instead of 3. The learning rate of the next step is 0.0005 (it was 0)" in said
    )
    after = scalars(run_dir(path))
    for name in ("train/loss", "train/learning_rate/projector"):
        assert after[name][:3] == before[name]
        assert [step for step, _ in after[name]] == list(range(6))
    rates = [rate for _, rate in after["train/learning_rate/projector"]]
    # Half of a cosine of six steps behind a whole one of three.
    assert rates[3:] == pytest.approx([5e-4, 2.5e-4, 0.067e-3], rel=0.01)


def test_a_run_that_has_all_its_steps_says_so(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr()
    weights = adapter(begun)
    assert verb("fit", begun, "--ckpt_path", "last") == 0
    assert "all of its 3 steps" in capsys.readouterr().err
    assert adapter(begun) == weights


def test_a_run_is_not_made_shorter(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, *resumed(begun, "--trainer.max_steps=2"))
    assert "a run of 3 optimizer steps, and this one is to have 2" in error


@pytest.mark.slow
def test_a_resumed_runs_config_says_what_a_user_said(begun: Path) -> None:
    assert verb("fit", begun, "--ckpt_path", "last", "--trainer.max_epochs=2") == 0
    written = yaml.safe_load((run_dir(begun) / "config.yaml").read_text())
    assert written["ckpt_path"] is None, "else the next run from this file would go on from there"
    assert written["trainer"]["max_epochs"] == 2


def test_settings_that_came_later_count_where_they_say_something_new() -> None:
    plain: dict[str, object] = {"precision": "bf16", "training": "frozen", "learning_rate": None}
    before = {"model": {"init_args": {"parts": {"head": plain}}}}
    now = {"model": {"init_args": {"parts": {"head": {**plain, "last_layers": None}}}}}
    now["model"]["init_args"]["parts"]["embeddings"] = {**plain, "last_layers": None}
    assert number_settings(now) == number_settings(before)
    parts: dict[str, dict[str, object]] = now["model"]["init_args"]["parts"]
    parts["language_model"] = {"training": "full", "last_layers": 2}
    parts["embeddings"] = {"precision": "fp32", "training": "full", "learning_rate": 1e-3, "last_layers": None}
    new = {name: value for name, value in number_settings(now).items() if name not in number_settings(before)}
    assert {name.removeprefix("model.init_args.parts."): value for name, value in new.items()} == {
        "embeddings.precision": "fp32", "embeddings.training": "full", "embeddings.learning_rate": 1e-3,
        "language_model.training": "full", "language_model.last_layers": 2,
    }  # fmt: skip
