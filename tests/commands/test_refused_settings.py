"""Tests of refused settings: the error names the place, the setting, and the one that was meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers.utils import is_torchvision_available

from tests.support.refusals import edited, refused
from vlm_lit.cli import main

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
PARTS = "model.init_args.parts"


def line_of(config: Path, key: str) -> int:
    """Which line of a config sets `key`, counted from 1."""
    lines = config.read_text().splitlines()
    return next(n for n, line in enumerate(lines, start=1) if line.strip().startswith(f"{key}:"))


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("trainer.max_epoch", "trainer.max_epochs"),  # a prefix, which argparse would complete
        ("model.init_args.learnin_rate", "model.init_args.learning_rate"),
        ("model.learnin_rate", "model.init_args.learning_rate"),
        ("model.init_args.rank", "model.init_args.lora.rank"),
        (f"{PARTS}.projector.trainig", f"{PARTS}.projector.training"),
        ("data.init_args.train.pth", "data.init_args.train.path"),
        ("run_dri", "run_dir"),
    ],
)
def test_a_mistyped_option(option: str, meant: str, config: Config, capsys: Capture) -> None:
    error = refused(capsys, config(), f"--{option}", "1")
    key = option if option.count(".") != 1 or "trainer" in option else option.replace("model.", "model.init_args.")
    assert error == f"error: the command line: {key} is not an option. Did you mean {meant}?"


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("model.init_args.lora.rnk", 4, "model.init_args.lora.rank"),
        (f"{PARTS}.projector.trainig", "full", f"{PARTS}.projector.training"),
        (f"{PARTS}.hed", {"precision": "fp32"}, f"{PARTS}.head"),
        ("data.init_args.train.pth", "x", "data.init_args.train.path"),
        ("trainer.max_epoch", 3, "trainer.max_epochs"),
        ("modle", {"class_path": "x"}, "model"),
        ("modle", {}, "model"),  # jsonargparse drops an empty mapping without a word
        ("modle", None, "model"),
    ],
)
def test_a_mistyped_key(key: str, value: object, meant: str, config: Config, capsys: Capture) -> None:
    path = edited(config(), {key: value})
    error = refused(capsys, path)
    line = line_of(path, key.rpartition(".")[2])
    assert error == f"error: {path}, line {line}: {key} is not an option. Did you mean {meant}?"


def test_an_empty_section_deep_in_a_config(config: Config, capsys: Capture) -> None:
    error = refused(capsys, edited(config(), {f"{PARTS}.hed": {}}))
    assert f"{PARTS}.hed is not an option. Did you mean {PARTS}.head?" in error


def test_a_callbacks_own_option(config: Config, capsys: Capture) -> None:
    saver = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"evry_n_steps": 3},
    }
    error = refused(capsys, edited(config(), {"trainer.callbacks": [saver]}))
    assert "evry_n_steps is not an option. Did you mean trainer.callbacks.init_args.every_n_steps?" in error


def test_an_optimizers_own_option(config: Config, capsys: Capture) -> None:
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"weight_deca": 0.1}}
    error = refused(capsys, edited(config(), {"model.init_args.optimizer": optimizer}))
    assert "Did you mean model.init_args.optimizer.init_args.weight_decay?" in error


def test_a_name_unlike_any_other_lists_what_there_is(config: Config, capsys: Capture) -> None:
    error = refused(capsys, edited(config(), {"model.init_args.lora.xyzzy": 1}))
    assert (
        "lora.xyzzy is not an option. There are: alpha, alphas, b_lr_ratio, dora, dropout, last_share, leaves, "
        in error
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("trainer.max_epochs", "three", "is three; it must be a whole number or null."),
        ("model.init_args.learning_rate", "fast", "is fast; it must be a number."),
        ("data.init_args.train.limit", "many", "is many; it must be a whole number or null."),
        (f"{PARTS}.language_model.training", "fulll", "it must be one of frozen, lora, full. Did you mean full?"),
        ("data.init_args.over_length", "eror", "error, drop, trim_text, shrink_image. Did you mean error?"),
        ("model.init_args.lora.targets", ["atention"], "a list, each one of attention, mlp. Did you mean attention?"),
        ("data.init_args.train", ["a.json"], "it must be a mapping of path, split, "),
        ("model.init_args.lora", [1], "is [1]; it must be a mapping, or left out."),
        ("model.init_args.lora", None, "is null; it must be a mapping, or left out."),
        ("trainer", None, "is null; it must be a mapping, or left out."),
        ("model", [1], "is [1]; it must be a class_path with its init_args or null."),
    ],
)
def test_a_value_of_the_wrong_kind(key: str, value: object, says: str, config: Config, capsys: Capture) -> None:
    path = edited(config(), {key: value})
    error = refused(capsys, path)
    assert error.startswith(f"error: {path}, line {line_of(path, key.rpartition('.')[2])}: {key} is ")
    assert says in error


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.init_args.learning_rate": 0.0}, "model.learning_rate is 0.0; it must be a finite number above zero."),
        ({"data.init_args.effective_batch": 0}, "data.effective_batch is 0; it must be at least 1."),
        ({"trainer.accumulate_grad_batches": 4}, "Set data.init_args.effective_batch"),
        ({"trainer.gradient_clip_val": 1.0}, "set model.init_args.gradient_clip."),
        ({"trainer.accelerator": "gpus"}, "trainer: You selected an invalid accelerator name"),
        ({"trainer.devices": 0}, "is not a valid input using cpu accelerator"),
        ({"trainer.devices": -1}, "trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
    ],
)
def test_a_value_that_no_run_can_have(changes: dict[str, object], says: str, config: Config, capsys: Capture) -> None:
    path = edited(config(), changes)
    error = refused(capsys, path)
    assert says in error
    assert "trainer" in says or "valid" in says or f"{path}, line " in error


@pytest.mark.parametrize(
    ("key", "value", "source"),
    [
        ("model.init_args.seed", 1, "seed_everything"),
        ("data.init_args.seed", 1, "seed_everything"),
        ("data.init_args.model_id", "elsewhere", "model.init_args.model_id"),
        ("data.init_args.revision", "main", "model.init_args.revision"),
    ],
)
def test_a_setting_that_follows_from_another_one(
    key: str, value: object, source: str, config: Config, capsys: Capture
) -> None:
    path = config()
    said = f"{key} is {value}, which has no effect: it follows from {source}"
    section, _, name = key.partition(".init_args.")
    for written in (f"--{key}={value}", f"--{section}.init_args={{{name}: {value}}}"):
        assert refused(capsys, path, written).startswith(f"error: the command line: {said}")
    error = refused(capsys, edited(path, {key: value}))
    assert error.startswith(f"error: {path}, line {line_of(path, key.rpartition('.')[2])}: {said}")


def test_a_setting_that_says_what_it_follows_from(config: Config, capsys: Capture) -> None:
    path = edited(config(), {"model.init_args.seed": 7, "data.init_args.seed": 7, "data.init_args.revision": None})
    path = edited(path, {"data.init_args.model_id": yaml.safe_load(path.read_text())["model"]["init_args"]["model_id"]})
    # It passes this check, and is refused for something else.
    assert "max_steps is 0" in refused(capsys, path, "--trainer.max_steps=0")


@pytest.mark.parametrize("number", [".nan", "1e400", ".inf"])
@pytest.mark.parametrize("key", ["model.init_args.learning_rate", f"{PARTS}.projector.learning_rate"])
def test_numbers_that_are_none(number: str, key: str, config: Config, capsys: Capture) -> None:
    path = edited(config(), {key: "NUMBER"})
    path.write_text(path.read_text().replace("NUMBER", number))
    line = path.read_text().splitlines().index(next(x for x in path.read_text().splitlines() if number in x)) + 1
    assert refused(capsys, path).startswith(f"error: {path}, line {line}: {number} is not a finite number.")


def test_an_infinite_number_on_the_command_line(config: Config, capsys: Capture) -> None:
    error = refused(capsys, config(), "--model.init_args.learning_rate", "1e400")
    assert error.startswith(
        "error: the command line: model.learning_rate is inf; it must be a finite number above zero."
    )


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_an_image_backend_that_is_not_installed(config: Config, capsys: Capture, tmp_path: Path) -> None:
    path = config(data={"image_backend": "torchvision"})
    error = refused(capsys, path)
    assert "data.init_args.image_backend is torchvision, which is not installed" in error
    assert "pip install 'vlm_lit[torchvision]'" in error
    # A budget of rows of a given length opens nothing: it is for another machine.
    out = tmp_path / "budget.txt"
    assert main(["budget", "--config", str(path), "--length", "64", "--output", str(out)]) == 0


def test_an_image_backend_that_is_none(config: Config, capsys: Capture) -> None:
    error = refused(capsys, config(data={"image_backend": "opencv"}))
    assert "image_backend" in error
    assert "pil" in error
    assert "torchvision" in error


@pytest.mark.parametrize(
    ("missing", "says"),
    [("model", "model.init_args.model_id must be set."), ("data", "There is nothing to fit: set data.init_args.train")],
)
def test_a_missing_section(missing: str, says: str, config: Config, capsys: Capture) -> None:
    assert refused(capsys, edited(config(), {missing: ...})).startswith(f"error: {says}")


def test_a_missing_model_id(config: Config, capsys: Capture) -> None:
    assert "model.init_args.model_id must be set" in refused(
        capsys, edited(config(), {"model.init_args.model_id": ...})
    )


@pytest.mark.parametrize(
    ("class_path", "says"),
    [
        ("vlm_lit.training.supervised.SupervisedModul", "does not exist. Did you mean vlm_lit.training.supervised.Sup"),
        ("vlm_lit.trainin.supervised.SupervisedModule", "does not exist. Did you mean vlm_lit.training.supervised.Sup"),
        ("vlm_lit.data.datamodule.ConversationDataModule", "which is no LightningModule. Ours are vlm_lit.Cl"),
    ],
)
def test_an_unknown_class(class_path: str, says: str, config: Config, capsys: Capture) -> None:
    path = edited(config(), {"model.class_path": class_path})
    lines = path.read_text().splitlines()
    line = max(number for number, text in enumerate(lines, 1) if text == f"  class_path: {class_path}")
    error = refused(capsys, path)
    assert error.startswith(f"error: {path}, line {line}: model.class_path is {class_path}, ")
    assert says in error


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("trainer: {\nmodel: [1\n  a: b\n", 3, "expected ',' or ']', but got ':'"),
        ("trainer:\n\tmax_epochs: 3\n", 2, "found character '\\t' that cannot start any token"),
        ("seed_everything: 1\ntrainer:\n  max_epochs: 1\n  max_epochs: 2\n", 4, "the key max_epochs stands there"),
        ("trainer: 1\nmodel: 2\ntrainer: 3\n", 3, "the key trainer stands there a second time"),
        ("? [a, b]\n: 1\n", 1, "found unhashable key"),
    ],
)
def test_a_broken_config(text: str, line: int, says: str, config: Config, capsys: Capture, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    error = refused(capsys, config(), "--config", str(broken))
    assert error.startswith(f"error: {broken}, line {line}: {says}")


@pytest.mark.parametrize("text", ["", "[1, 2]", "words", "a: &a {b: *a}", "[" * 5000])
def test_what_is_no_config_at_all(text: str, config: Config, capsys: Capture, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    assert refused(capsys, config(), "--config", str(broken)).startswith(f"error: {broken}")


def test_a_missing_config(config: Config, capsys: Capture, tmp_path: Path) -> None:
    path = config()
    error = refused(capsys, path, "--config", str(tmp_path / "confg.yaml"))
    assert error == f"error: the command line: there is no config file {tmp_path / 'confg.yaml'}. Did you mean {path}?"


def test_a_config_of_parts_names_the_part(config: Config, capsys: Capture) -> None:
    path = config()
    settings = yaml.safe_load(path.read_text())
    settings["model"]["init_args"]["learnin_rate"] = 1
    part = path.with_name("model.yaml")
    part.write_text(yaml.safe_dump(settings["model"]))
    error = refused(capsys, edited(path, {"model": "model.yaml"}))
    assert error.startswith(f"error: {part}, line {line_of(part, 'learnin_rate')}: model.init_args.learnin_rate is not")
    part.unlink()
    assert f"{path}, line {line_of(path, 'model')}: there is no config file {part}." in refused(capsys, path)


def test_a_later_config_is_the_one_to_blame(config: Config, capsys: Capture, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("trainer:\n  max_epochs: three\n")
    assert refused(capsys, config(), "--config", str(overlay)).startswith(
        f"error: {overlay}, line 2: trainer.max_epochs"
    )


def test_dates_and_exponents_are_what_they_look_like(config: Config, capsys: Capture) -> None:
    path = config()
    text = path.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3").replace("dropout: 0.0", "dropout: 0")
    path.write_text(text + "ckpt_path: 2026-01-31\n")
    assert refused(capsys, path).startswith("error: --ckpt_path 2026-01-31 is not a file.")
