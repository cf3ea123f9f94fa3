"""Tests of monitored figures: the check before a model is loaded, and early stopping within one epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

from tests.support.plain_runs import data_of, module_of, quiet_trainer
from vlm_lit.cli import main
from vlm_lit.commands.lightning import VlmLitCLI, prepared
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.step_checkpoint import checkpoints
from vlm_lit.training.logged_names import logged_names
from vlm_lit.training.module import VisionLanguageModule

Config = Callable[..., Path]

STOP = "--trainer.callbacks+=EarlyStopping"


def refused(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> str:
    assert main(["fit", "--config", str(path), *more]) == 2
    shown = capsys.readouterr().err
    assert "Loading weights" not in shown
    assert not (path.parent / "run").exists()
    return shown.splitlines()[-1]


def stopped(path: Path, *more: str) -> int:
    """Optimizer steps of a run with early stopping."""
    assert main(["fit", "--config", str(path), STOP, *more]) == 0
    return int(checkpoints(path.parent / "run" / "checkpoints")[-1].stem.removeprefix("step-"))


# The rate is nought, so no validation is better than the first.
STILL = {"learning_rate": 1e-30}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    ("interval", "patience", "steps"),
    [
        ("1", 2, 3),  # after each step: the first counts, two more are no better
        ("1.0", 1, 6),  # after each pass of three steps; Lightning takes 1.0 for a run that it need not look into
        ("0.34", 3, 4),
    ],
)
def test_it_stops_within_the_run(interval: str, patience: int, steps: int, config: Config) -> None:
    path = config(model=STILL, trainer={"max_epochs": 4})
    more = ["--trainer.callbacks.monitor=val/loss", f"--trainer.callbacks.patience={patience}"]
    assert stopped(path, *more, f"--trainer.val_check_interval={interval}") == steps
    assert (path.parent / "run" / "adapter").is_dir()


def test_it_stops_by_an_accuracy_that_does_not_rise(config: Config) -> None:
    path = config(model=STILL, trainer={"max_epochs": 4})
    more = ("--trainer.callbacks.monitor=val/exact_match", "--trainer.callbacks.mode=max")
    assert stopped(path, *more, "--trainer.callbacks.patience=1") == 6


def test_min_epochs_are_passes(config: Config) -> None:
    path = config(model=STILL, trainer={"max_epochs": 4, "min_epochs": 3})
    more = ("--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.patience=1")
    assert stopped(path, *more) == 9


@pytest.mark.slow
def test_a_run_that_was_stopped_twice_is_the_one_that_was_not(config: Config, tmp_path: Path) -> None:
    # The patience that is used up stands in the checkpoint.
    path = config(model=STILL, trainer={"max_epochs": 4, "val_check_interval": 1})
    watch = ("--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.patience=5")
    keep = "--trainer.callbacks+=vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"
    more = (*watch, keep, "--trainer.callbacks.every_n_steps=1", "--trainer.callbacks.keep=20")
    assert stopped(path, *more) == 6
    for later in (tmp_path / "run" / "checkpoints").glob("step-00000[456].ckpt"):
        later.unlink()
    assert stopped(path, *more, "--ckpt_path=last") == 6


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["monitor=val_loss"], "monitor is val_loss, which this run does not log. Did you mean val/loss?"),
        (["monitor=val/exact_mach"], "Did you mean val/exact_match?"),
        (["monitor=vqa_accuracy"], "Did you mean val/vqa_accuracy?"),
        (["monitor=val/exact_match/othre"], "Did you mean val/exact_match/other?"),
        (["monitor=quality"], "It logs train/loss, val/loss, val/vqa_accuracy, val/exact_match"),
        (["monitor=val/vqa_accuracy"], "val/vqa_accuracy is the better the higher it is. Set mode to max."),
        (["monitor=val/loss", "mode=max"], "the better the lower"),
        (["monitor=val/loss", "check_on_train_epoch_end=true"], "Leave it out: it looks after each validation."),
    ],
)  # fmt: skip
def test_a_monitor_that_cannot_be_is_refused_before_anything_is_loaded(
    more: list[str], says: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--trainer.callbacks.{option}" for option in more]
    assert says in refused(capsys, config(), STOP, *options)


def test_what_is_not_measured_is_said_to_be_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    watch = (STOP, "--trainer.callbacks.monitor=val/loss")
    assert "validate_by is answers: set it to both" in refused(
        capsys, config(), *watch, "--data.init_args.validate_by=answers"
    )
    assert "there is no validation: set data.init_args.val" in refused(
        capsys, config(), *watch, "--data.init_args.val=null"
    )
    assert "trainer.limit_val_batches is 0" in refused(capsys, config(), *watch, "--trainer.limit_val_batches=0")
    early = (STOP, "--trainer.callbacks.monitor=train/loss", "--data.init_args.val=null")
    assert "looks at train/loss after each validation, and there is no" in refused(capsys, config(), *early)


def test_keep_best_is_checked_as_well(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean val/loss?" in refused(capsys, config(), "--keep_best=val/los")
    wrong = ("--keep_best=val/vqa_accuracy", "--keep_best_mode=min")
    assert "val/vqa_accuracy is the better the higher it is. Set mode to max." in refused(capsys, config(), *wrong)


@pytest.mark.parametrize("name", ["ModelCheckpoint", "OnExceptionCheckpoint"])
def test_lightnings_checkpoints_are_refused_with_what_to_use(
    name: str, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = refused(capsys, config(), f"--trainer.callbacks+={name}", f"--trainer.callbacks.dirpath={tmp_path}")
    assert f"{name} saves in the middle" in shown
    assert "--keep_best val/loss" in shown
    assert "StepCheckpoint" in shown


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("WeightAveraging", [], "would hold others than were measured"),
        ("EMAWeightAveraging", [], "EMAWeightAveraging validates averaged weights"),
        ("StochasticWeightAveraging", ["swa_lrs=0.01"], "so it averages none"),
        ("GradientAccumulationScheduler", ["scheduling={0: 4}"], "Set data.init_args.effective_batch"),
        ("ModelPruning", ["pruning_fn=l1_unstructured"], "python -m vlm_lit merge"),
        ("BatchSizeFinder", [], "Set data.init_args.micro_batch to auto"),
        ("Timer", ["duration=00:00:00:01", "interval=epoch"], "Set interval to step."),
        ("Timer", [], "so it never stops a run"),
        ("LearningRateMonitor", ["logging_interval=epoch"], "it would log one value"),
        ("EarlyStopping", ["monitor=val/loss", "mode=foo"], "`mode` can be min, max, got foo"),
    ],
)
def test_callbacks_that_are_no_use_here_are_refused_with_the_reason(
    name: str, more: list[str], says: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--trainer.callbacks.{option}" for option in more]
    shown = refused(capsys, config(), f"--trainer.callbacks+={name}", *options)
    assert shown.startswith("error: ")
    assert says in shown


def test_a_timer_of_steps_stands_in_a_runs_config(config: Config) -> None:
    cli = prepared(
        ["--config", str(config()), "--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00"]
    )
    assert "interval: step" in cli._shown()


def test_and_so_are_those_of_a_trainer_in_python(config: Config, tmp_path: Path) -> None:
    class Own(EMAWeightAveraging):
        pass

    path = config()
    trainer = quiet_trainer(tmp_path / "python", callbacks=[Own()])
    module = module_of(path)
    with pytest.raises(ConfigError, match="Own validates averaged weights"):
        trainer.fit(module, data_of(path))
    assert module.model is None
    trainer = quiet_trainer(tmp_path / "python", gradient_clip_algorithm="value")
    with pytest.raises(ConfigError, match="gradient_clip_algorithm is value"):
        trainer.fit(module, data_of(path))
    trainer = quiet_trainer(tmp_path / "python", val_check_interval=1, check_val_every_n_epoch=2)
    with pytest.raises(ConfigError, match="both say when to validate"):
        trainer.fit(module, data_of(path))


def test_and_so_is_asking_for_them_by_the_trainers_option(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--keep_best val/loss" in refused(capsys, config(), "--trainer.enable_checkpointing=true")


def test_fast_dev_run_keeps_no_best(config: Config) -> None:
    path = config()
    assert main(["fit", "--config", str(path), "--keep_best=val/loss", "--trainer.fast_dev_run=true"]) == 0
    assert not (path.parent / "run" / "checkpoints" / "best.ckpt").exists()


def test_the_names_are_those_that_a_run_logs(config: Config, small: Path) -> None:
    metrics = [{"name": "multiple_choice"}, {"name": "exact_match"}, {"name": "answer_length"}]
    rows = json.loads((small / "val.json").read_text())
    for row in rows:
        row["conversations"][-1]["value"] = "B"
    (small / "letters.json").write_text(json.dumps(rows))
    path = config(model={"metrics": metrics}, data={"val": {"path": str(small / "letters.json")}})
    cli = VlmLitCLI("fit", ["--config", str(path), "--trainer.max_steps=1"])
    assert isinstance(cli.model, VisionLanguageModule)
    assert isinstance(cli.datamodule, ConversationDataModule)
    names = logged_names(cli.model, cli.datamodule, ["val/multiple_choice/other"])
    assert set(names.modes) == set(cli.trainer.callback_metrics)
    assert names.modes["val/exact_match/other"] == "max"
    assert names.modes["val/multiple_choice[extractor=mmmu]/unparsed"] is None


def test_code_of_the_users_own_may_log_what_it_likes(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module.py").write_text(
        "from vlm_lit.training.supervised import SupervisedModule\n\n\n"
        "class Own(SupervisedModule):\n"
        "    def on_validation_epoch_end(self):\n"
        "        super().on_validation_epoch_end()\n"
        "        self.log('val/own', 1.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "own_module")
    path = config(trainer={"max_epochs": 4})
    path.write_text(path.read_text().replace("vlm_lit.training.supervised.SupervisedModule", "own_module.Own"))
    assert stopped(path, "--trainer.callbacks.monitor=val/own", "--trainer.callbacks.patience=1") == 6
    stop = EarlyStopping("val/own")
    assert stop._check_on_train_epoch_end is None  # the name that `StopAfterValidation` sets
