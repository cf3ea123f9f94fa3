"""Tests of steps that have nothing to learn: they change nothing, count, and end no run that learns elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.pairs import preference_config
from tests.support.refusals import refusal
from tests.support.runs import checkpoint, run_dir, scalars, verb

Config = Callable[..., Path]
LONGEST = 60


@pytest.fixture
def path(either_config: Config, small: Path, pairs: Path, tmp_path: Path) -> Path:
    """A run of five steps of one item: the second and the fourth item are longer than allowed, and dropped."""
    is_pairs = either_config.func is preference_config  # type: ignore[attr-defined]
    source = pairs if is_pairs else small
    rows: list[dict[str, Any]] = json.loads((source / "train.json").read_text())[:5]
    for row in (rows[1], rows[3]):
        if is_pairs:
            row["question"] = "word " * LONGEST
        else:
            row["conversations"][0]["value"] = "<image>" + "word " * LONGEST
    file = source / f"long-{tmp_path.name}.json"
    file.write_text(json.dumps(rows))
    data = {"train": {"path": str(file)}, "effective_batch": 1, "max_length": LONGEST, "over_length": "drop"}
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1, "keep": 9},
    }
    return either_config(data=data, trainer={"callbacks": [keeper]})


@pytest.mark.slow(but_first=True)
def test_a_step_that_the_over_length_policy_empties_ends_no_run(path: Path) -> None:
    with pytest.warns(UserWarning, match="The weights stay as they are") as said:
        assert verb("fit", path) == 0
    steps = {int(str(one.message).split()[1]) for one in said if "has no loss" in str(one.message)}
    assert len(steps) == 2
    kept = [checkpoint(run_dir(path), step) for step in range(1, 6)]
    for step in range(1, 5):  # a step's checkpoint is numbered from 1, its words from 0
        same = all(torch.equal(kept[step - 1]["state_dict"][n], w) for n, w in kept[step]["state_dict"].items())
        assert same == (step in steps)
    assert [int(one["lr_schedulers"][0]["last_epoch"]) for one in kept] == [1, 2, 3, 4, 5]
    figures = scalars(run_dir(path))
    for name in ("train/loss", "train/gradient_norm"):  # and not those of the step before once more
        assert [step for step, _ in figures[name]] == sorted({0, 1, 2, 3, 4} - steps)
    assert [step for step, _ in figures["train/learning_rate/projector"]] == [0, 1, 2, 3, 4]


@pytest.mark.slow(but_first=True)
@pytest.mark.filterwarnings("ignore:Step")
def test_such_a_run_goes_on_as_if_never_killed(path: Path, tmp_path: Path) -> None:
    assert fit_apart(path, tmp_path / "whole") == 0
    kill = Kill(at="torch.optim.lr_scheduler:LambdaLR.step", call=5)  # one is the schedule's own start
    assert fit_apart(path, tmp_path / "killed", kill=kill) == -9
    assert fit_apart(path, tmp_path / "killed", "--ckpt_path", "last") == 0
    assert Outcome.of(tmp_path / "killed") == Outcome.of(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:Step")
def test_a_run_that_learns_nothing_at_all_is_given_up(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load(path.read_text())
    file = Path(settings["data"]["init_args"]["train"]["path"])
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([row for row in rows if "word word" in json.dumps(row)]))
    error = refusal(capsys, "fit", "--config", str(path))
    assert "Nor had the steps before it in this process: nothing is learned. Check their answers, max_length" in error
    assert not (run_dir(path) / "adapter").exists()
