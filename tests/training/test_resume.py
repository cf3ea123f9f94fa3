"""Tests of equality 6 (resumed): a run killed anywhere and resumed is the run never killed, bit for bit.

Dropout is on, three passes of step batches of 8, 8 and 4 conversations, two data workers, a validation after each pass.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.pairs import preference_config
from tests.support.runs import scalars

Config = Callable[..., Path]

BACKWARD = "vlm_lit.training.step:StepModule._backward"
VALIDATION = "vlm_lit.training.evaluated:EvaluatedModule.validation_step"
STEPS = 9


@pytest.fixture
def config(either_config: Config) -> Config:
    return either_config


def written(config: Config, every_n_steps: int = 1) -> Path:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": every_n_steps},
    }
    # A preference run has no dropout unless it is asked for.
    asked = {"dropout": True} if config.func is preference_config else {}  # type: ignore[attr-defined]
    return config(
        model={"lora": {"dropout": 0.1}, **asked},
        data={"num_workers": 2},
        trainer={"max_epochs": 3, "callbacks": [keeper]},
    )


_NEVER_KILLED: dict[object, Outcome] = {}


@pytest.fixture
def never_killed(config: Config, tmp_path: Path) -> Outcome:
    # Once for all tests of a kind here: model and data are the session's.
    kind = config.func  # type: ignore[attr-defined]
    if kind not in _NEVER_KILLED:
        assert fit_apart(written(config), tmp_path / "whole") == 0
        _NEVER_KILLED[kind] = Outcome.of(tmp_path / "whole")
    return _NEVER_KILLED[kind]


def killed_and_resumed(path: Path, folder: Path, *kills: Kill, tamper: Callable[[], None] | None = None) -> Outcome:
    more: tuple[str, ...] = ()
    for kill in kills:
        assert fit_apart(path, folder, *more, kill=kill, tamper=tamper) == -9
        more = ("--ckpt_path", "last")
    assert fit_apart(path, folder, *more, tamper=tamper) == 0
    return Outcome.of(folder)


@pytest.mark.slow(but_first=True)
def test_the_run_to_compare_with_is_whole_and_repeats_itself(
    never_killed: Outcome, config: Config, tmp_path: Path
) -> None:
    assert [step for step, _ in never_killed.figures["train/loss"]] == list(range(STEPS))
    assert [step for step, _ in never_killed.figures["val/vqa_accuracy"]] == [2, 5, 8]
    assert [step for step, _ in never_killed.panels] == [2, 5, 8]
    assert {"train/gradient_norm", "train/learning_rate/projector"} <= set(never_killed.figures)
    assert fit_apart(written(config), tmp_path / "again") == 0
    assert Outcome.of(tmp_path / "again") == never_killed


KILLS = {
    # A step batch has 3, 3 and 2 micro-batches, so call 12 is the second pass's second step batch, half done.
    "within a step batch": Kill(at=BACKWARD, call=12),
    "gradients there, weights not yet": Kill(at="vlm_lit.training.ranks:clip", call=5),
    "weights there, schedule not yet": Kill(at="torch.optim.lr_scheduler:LambdaLR.step", call=6),
    "within validation": Kill(at=VALIDATION, call=2),
    "checkpoint written, not yet in place": Kill(at="os:fsync", call=9),
    "checkpoint in place, at the border of a pass": Kill(at="vlm_lit.files.whole:sync_folder", call=5),
    "last checkpoint in place, adapter not yet": Kill(
        at="vlm_lit.training.callbacks.run_directory:save_adapter", call=1
    ),
}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_equality_6_killed_once(kill: Kill, never_killed: Outcome, config: Config, tmp_path: Path) -> None:
    assert killed_and_resumed(written(config), tmp_path / "killed", kill) == never_killed


@pytest.mark.slow(but_first=True)
def test_equality_6_killed_twice(never_killed: Outcome, config: Config, tmp_path: Path) -> None:
    # The second kill strikes a resumed process, whose state has been through a checkpoint once.
    kills = Kill(at=BACKWARD, call=6), Kill(at=VALIDATION, call=1)
    assert killed_and_resumed(written(config), tmp_path / "killed", *kills) == never_killed


@pytest.mark.slow(but_first=True)
def test_equality_6_preempted(never_killed: Outcome, config: Config, tmp_path: Path) -> None:
    path, folder = written(config, every_n_steps=100), tmp_path / "stopped"
    assert fit_apart(path, folder, kill=Kill(at=BACKWARD, call=12, by=signal.SIGTERM)) == 143
    assert fit_apart(path, folder, "--ckpt_path", "last") == 0
    assert Outcome.of(folder) == never_killed


@pytest.mark.slow
def test_steps_that_are_done_again_show_once(never_killed: Outcome, config: Config, tmp_path: Path) -> None:
    path, folder = written(config, every_n_steps=4), tmp_path / "killed"
    assert fit_apart(path, folder, kill=Kill(at=BACKWARD, call=20)) == -9
    assert [step for step, _ in scalars(folder)["train/loss"]] == list(range(7))
    assert fit_apart(path, folder, "--ckpt_path", "last") == 0  # from step 4
    assert Outcome.of(folder) == never_killed


def drop_out_in_sequence() -> None:
    # Seeds that depend on what this process did before: what a plain generator is.
    import vlm_lit.training.step as step

    counter = itertools.count()
    step.derive_seed = lambda *_: next(counter)  # type: ignore[attr-defined]


def forget_the_position() -> None:
    from vlm_lit.data.datamodule import ConversationDataModule

    ConversationDataModule.load_state_dict = lambda *_: None  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("tamper", [drop_out_in_sequence, forget_the_position])
def test_the_comparison_sees_what_is_not_restored(tamper: Callable[[], None], config: Config, tmp_path: Path) -> None:
    # Negative controls: each run is deterministic, but a resumed one is another.
    path = written(config)
    assert fit_apart(path, tmp_path / "whole", tamper=tamper) == 0
    kill = Kill(at=BACKWARD, call=12)
    resumed = killed_and_resumed(path, tmp_path / "killed", kill, tamper=tamper)
    whole = Outcome.of(tmp_path / "whole")
    assert resumed.adapter_sha256 != whole.adapter_sha256
    assert resumed.figures["train/loss"][:4] == whole.figures["train/loss"][:4]
    assert resumed.figures["train/loss"] != whole.figures["train/loss"]


def command(config: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(config), "--run_dir", str(folder), *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when_there(process: subprocess.Popen[bytes], checkpoint: Path) -> int:
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.002)
    process.kill()
    return process.wait()


@pytest.mark.slow
def test_equality_6_through_the_command_line(never_killed: Outcome, config: Config, tmp_path: Path) -> None:
    path, folder = written(config), tmp_path / "killed"
    kept = folder / "checkpoints"
    assert kill_when_there(command(path, folder), kept / "step-000002.ckpt") == -9
    assert kill_when_there(command(path, folder, "--ckpt_path", "last"), kept / "step-000006.ckpt") == -9
    assert command(path, folder, "--ckpt_path", "last").wait() == 0
    assert Outcome.of(folder) == never_killed
