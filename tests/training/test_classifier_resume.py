"""Equality 6 (resumed) of a classifier: killed anywhere and resumed is never killed, bit for bit.

Dropout and augmentation are on, two workers make the batches, and each epoch is validated, where ViLT draws at random.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.interrupted import Kill, Outcome, fit_apart

STEPS = 9


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 questions in steps of 8, 8 and 4, three epochs."""
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder, "train", 20)
    write_questions(folder, "val", 6)
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    return write_config(
        folder,
        checkpoint(folder / "vilt"),
        folder,
        model={"dropout": 0.1, "schedule": "polynomial", "decay": "matrices"},
        data={"num_workers": 2, "augment": {"operations": 2, "colour": False}, "questions_together": 3},
        trainer={"max_epochs": 3, "callbacks": [keeper]},
    )


@pytest.fixture(scope="module")
def never_killed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("whole")
    assert fit_apart(config, folder) == 0
    return Outcome.of(folder)


@pytest.mark.slow
def test_the_run_to_compare_with_is_whole_and_repeats_itself(
    never_killed: Outcome, config: Path, tmp_path: Path
) -> None:
    assert [step for step, _ in never_killed.figures["train/loss"]] == list(range(STEPS))
    assert [step for step, _ in never_killed.figures["val/loss"]] == [2, 5, 8]
    assert fit_apart(config, tmp_path / "again") == 0
    assert Outcome.of(tmp_path / "again") == never_killed


KILLS = {
    # A step has 3, 3 and 2 micro-batches, so call 12 is the second epoch's second step, half done.
    "within a step": Kill(at="vlm_lit.training.step:StepModule._backward", call=12),
    "within validation": Kill(at="vlm_lit.training.evaluated:EvaluatedModule.validation_step", call=2),
    "weights there, schedule not yet": Kill(at="torch.optim.lr_scheduler:LambdaLR.step", call=6),
    "preempted within a step": Kill(at="vlm_lit.training.step:StepModule._backward", call=12, by=signal.SIGTERM),
}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_equality_6_killed_once(kill: Kill, never_killed: Outcome, config: Path, tmp_path: Path) -> None:
    assert fit_apart(config, tmp_path / "killed", kill=kill) == (143 if kill.by == signal.SIGTERM else -9)
    assert fit_apart(config, tmp_path / "killed", "--ckpt_path", "last") == 0
    assert Outcome.of(tmp_path / "killed") == never_killed
