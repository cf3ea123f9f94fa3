"""Tests of a Lightning user's habits on the command line: they work, or are refused in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from tests.support.plain_runs import module_of
from tests.support.refusals import edited
from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.commands.lightning import VlmLitCLI, prepared
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_fast_dev_run_makes_one_step_and_one_validation_and_writes_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = config(trainer={"max_epochs": 3})
    before = sorted(tmp_path.rglob("*"))
    run = fit(path, "--trainer.fast_dev_run", "true", "--keep_best", "val/loss")
    assert run.trainer.global_step == 1
    assert "val/vqa_accuracy" in run.trainer.callback_metrics
    assert sorted(tmp_path.rglob("*")) == before


def _step_batches(run: VlmLitCLI) -> list[list[int]]:
    data = run.datamodule
    assert isinstance(data, ConversationDataModule)
    sampler = data.train_dataloader().batch_sampler
    assert sampler is not None
    return [list(indices) for indices in sampler]


def test_overfit_batches_repeats_the_first_steps_of_the_first_pass(config: Config) -> None:
    path = config(trainer={"max_epochs": 3})
    run = fit(path, "--trainer.overfit_batches", "2")
    assert run.trainer.global_step == 6
    steps = _step_batches(run)
    assert steps == steps[:2] * 3
    assert steps[0] != steps[1]


def test_limits_count_the_steps_of_a_pass_and_the_batches_of_an_evaluation(config: Config) -> None:
    path = config(trainer={"max_epochs": 2}, data={"eval_batch": 2})
    run = fit(path, "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1")
    assert run.trainer.global_step == 4
    assert len(run.model.last_predictions) == 2
    steps = _step_batches(run)
    assert steps[:2] != steps[2:]  # another order in another pass


@pytest.mark.parametrize("name", ["test", "predict"])
def test_limits_of_an_evaluation(config: Config, name: str) -> None:
    path = config(data={"eval_batch": 2, "predict": None})
    more = [f"--data.init_args.{name}.path", str(path.parent / "val.json")] if name == "predict" else []
    if more:
        source = Path(yaml.safe_load(path.read_text())["data"]["init_args"]["val"]["path"])
        shutil.copytree(source.parent / "images", path.parent / "images")
        shutil.copy(source, path.parent / "val.json")
    run = VlmLitCLI(name, ["--config", str(path), f"--trainer.limit_{name}_batches", "2", *more])
    assert len(run.model.last_predictions) == 4


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    ("more", "at"),
    [
        (("--trainer.val_check_interval", "2"), [2, 4, 6]),
        (("--trainer.val_check_interval", "0.34"), [1, 2, 3, 4, 5, 6]),
        (("--trainer.check_val_every_n_epoch", "2"), [6]),
    ],
)
def test_when_a_run_validates(config: Config, more: tuple[str, ...], at: list[int]) -> None:
    path = config(trainer={"max_epochs": 2})
    fit(path, *more)
    assert [step for step, _ in scalars(run_dir(path))["val/vqa_accuracy"]] == [step - 1 for step in at]


def test_max_time_ends_a_run_with_its_adapter(config: Config) -> None:
    path = config(trainer={"max_epochs": 3})
    run = fit(path, "--trainer.max_time", "00:00:00:00")
    assert run.trainer.global_step < 9
    assert (run_dir(path) / "adapter" / "adapter_model.safetensors").is_file()


def test_min_epochs_are_passes(config: Config) -> None:
    path = config(trainer={"max_epochs": 3})
    run = fit(path, "--trainer.max_time", "00:00:00:00", "--trainer.min_epochs", "2")
    assert run.trainer.global_step == 6


def test_min_steps_are_optimizer_steps(config: Config) -> None:
    path = config(trainer={"max_epochs": 3})
    run = fit(path, "--trainer.max_time", "00:00:00:00", "--trainer.min_steps", "4")
    assert run.trainer.global_step == 4


def test_profiler_and_learning_rate_monitor(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    path = config()
    assert verb("fit", path, "--trainer.profiler", "simple", "--trainer.callbacks+=LearningRateMonitor") == 0
    assert "run_training_batch" in caplog.text
    found = scalars(run_dir(path))
    assert [value for _, value in found["lr-AdamW/projector"]] == [
        value for _, value in found["train/learning_rate/projector"]
    ]


@pytest.mark.slow
def test_sanity_check_and_anomaly_detection_change_nothing(config: Config) -> None:
    path = config()
    fit(path)
    plain = scalars(run_dir(path))
    fit(path, "--overwrite", "--trainer.num_sanity_val_steps", "1", "--trainer.detect_anomaly", "true")
    checked = scalars(run_dir(path))
    for name in ("train/loss", "val/vqa_accuracy"):
        assert checked[name] == plain[name]


def test_learning_rate_finder_finds_the_peak_of_the_schedule(config: Config) -> None:
    path = config(model={"warmup_ratio": 0.0})
    run = fit(
        path,
        "--trainer.callbacks+=LearningRateFinder",
        "--trainer.callbacks.num_training_steps=20",
        "--trainer.callbacks.min_lr=1e-5",
        "--trainer.callbacks.max_lr=1e-2",
    )
    module = run.model
    assert isinstance(module, SupervisedModule)
    assert 1e-5 < module.learning_rate < 1e-2
    assert module.learning_rate != 1e-3  # the config's
    rates = [value for _, value in scalars(run_dir(path))["train/learning_rate/projector"]]
    torch.testing.assert_close(rates[0], module.learning_rate)
    assert rates == sorted(rates, reverse=True)
    assert not list(run_dir(path).glob(".lr_find*"))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--trainer.barebones", "true"), "trainer.barebones leaves out logging"),
        (("--trainer.accumulate_grad_batches", "2"), "data.init_args.effective_batch"),
        (("--trainer.gradient_clip_val", "1.0"), "model.init_args.gradient_clip"),
        (("--trainer.gradient_clip_algorithm", "value"), "trainer.gradient_clip_algorithm is value"),
        (("--trainer.max_epochs", "2", "--trainer.min_epochs", "3"), "trainer.min_epochs is 3, and trainer.max_epochs"),
        (
            ("--trainer.val_check_interval", "1", "--trainer.check_val_every_n_epoch", "2"),
            "check_val_every_n_epoch is 2 and trainer.val_check_interval is 1: both say when",
        ),
        (
            ("--trainer.val_check_interval", "0.34", "--trainer.check_val_every_n_epoch", "2"),
            "a val_check_interval of 2.0 is every 2 epochs",
        ),
        (("--model.schedule", "constant", "--model.warmup_ratio", "0.5"), "model.schedule to constant_with_warmup"),
        (("--keep_best_mode", "min"), "keep_best_mode is min, and no best checkpoint is kept"),
        (("--trainer.max_epochs", "-1"), "trainer.max_epochs is -1"),
        (("--trainer.limit_train_batches", "0"), "trainer.limit_train_batches is 0"),
        (("--trainer.val_check_interval", "0"), "trainer.val_check_interval is 0"),
        (("--trainer.strategy", "fsdp"), "trainer.strategy is fsdp: it shards the parameters"),
        (("--trainer.strategy", "deepspeed_stage_2"), "trainer.strategy is deepspeed_stage_2: it keeps only the last"),
        (("--trainer.strategy", "deepspeed_stage_3"), "trainer.strategy is deepspeed_stage_3: it splits the trained"),
        (("--trainer.strategy", "fsdp_cpu_offload"), "frozen_sharded (the frozen base is split over the devices)"),
        (
            ("--trainer.strategy", "lightning.pytorch.strategies.ModelParallelStrategy"),
            "trainer.strategy is ModelParallelStrategy: it leaves to the module how a model is split",
        ),
        (
            ("--model.init_args.optimizer=torch.optim.AdamW", "--model.init_args.optimizer.lr=0.5"),
            "optimizer.init_args.lr is 0.5",
        ),
        (
            # AdamW's own default, which is written all the same
            ("--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=0.001", "--model.learning_rate=2e-4"),
            "optimizer.init_args.lr is 0.001",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    config: Config, capsys: pytest.CaptureFixture[str], option: tuple[str, ...], words: str
) -> None:
    path = config()
    assert verb("fit", path, *option) == 2
    assert words in _said(capsys)
    assert not run_dir(path).exists()


def test_optimizers_rate_in_a_config(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by hand it is refused; a run's own config holds all of the optimizer's options, defaults too."""
    written = config(model={"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.001}}})
    other = ("--model.learning_rate=0.02",)
    assert verb("fit", written, *other) == 2
    assert "optimizer.init_args.lr is 0.001, which has no effect" in _said(capsys)
    ends = "--trainer.max_steps=0"  # what a config that passes is refused for
    with pytest.raises(SystemExit):
        verb("fit", config(model={"optimizer": {"class_path": "torch.optim.SGD"}}), *other, "--print_config")
    kept = written.with_name("kept.yaml")
    kept.write_text(capsys.readouterr().out)
    assert yaml.safe_load(kept.read_text())["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.001
    assert verb("fit", kept, ends) == 2
    assert "trainer.max_steps is 0" in _said(capsys)


def test_rate_of_an_optimizer_given_in_python(config: Config) -> None:
    path = config()
    with pytest.raises(ConfigError, match=r"optimizer.init_args.lr is 0.001"):
        module_of(path, optimizer=partial(torch.optim.AdamW, lr=1e-3), learning_rate=2e-4)
    module_of(path, optimizer=partial(torch.optim.AdamW, lr=1e-3), learning_rate=1e-3)
    # As a checkpoint of a command line's run holds it, with all defaults.
    stored = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "eps": 1e-8}}
    module_of(path, optimizer=stored, learning_rate=2e-4)


@pytest.mark.parametrize(
    ("more", "steps"),
    [((), 3), (("max_steps=8",), 8), (("max_steps=2",), 2), (("max_steps=8", "max_epochs=2"), 6)],
)
def test_max_steps_alone_takes_as_many_epochs_as_it_needs(more: tuple[str, ...], steps: int, config: Config) -> None:
    path = edited(config(), {"trainer.max_epochs": ...})
    run = prepared(["--config", str(path), *(f"--trainer.{option}" for option in more)])
    run.datamodule.trainer = run.trainer
    assert run.datamodule.total_steps == steps


def test_learning_rate_that_no_part_takes_is_refused(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {
        "vision_tower": {"precision": "fp32"},
        "projector": {"precision": "fp32", "training": "full", "learning_rate": 1e-3},
        "language_model": {"precision": "nf4", "training": "lora", "learning_rate": 2e-3},
        "head": {"precision": "fp32"},
    }
    path = config(model={"parts": parts})
    assert verb("fit", path) == 2
    assert "model.learning_rate is 0.001, which has no effect" in _said(capsys)
    assert verb("fit", config(model={"parts": parts, "learning_rate": 2e-4})) == 0
