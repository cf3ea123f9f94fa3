"""Tests of runs with LoRA on the tower's last blocks and a store of what lies below: exact, resumed, kept, merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.refusals import edited, refusal, run_dir
from tests.support.runs import scalars
from vlm_lit.cli import main

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
TOWER = {"precision": "fp32", "training": "lora", "last_layers": 1}


@pytest.fixture
def path(config: Config, tmp_path: Path) -> Path:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    made = config(data={"num_workers": 0}, trainer={"max_epochs": 2, "callbacks": [keeper]})
    store = {"data.init_args.feature_cache": str(tmp_path / "store")}
    return edited(made, {"model.init_args.parts.vision_tower": TOWER, **store})


@pytest.mark.slow
def test_a_run_from_the_store_is_the_live_one(path: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(path)]) == 0
    live = ["--run_dir", str(tmp_path / "live"), "--data.init_args.feature_cache=null"]
    assert main(["fit", "--config", str(path), *live]) == 0
    for tag in ("train/loss", "val/vqa_accuracy"):
        found, expected = (dict(scalars(folder)[tag]) for folder in (run_dir(path), tmp_path / "live"))
        assert found == pytest.approx(expected, rel=1e-5)
    kept, other = (load_file(f / "adapter" / "adapter_model.safetensors") for f in (run_dir(path), tmp_path / "live"))
    assert kept.keys() == other.keys()
    # The tiny LLaVA reads its tower behind the last block but one of three: that one trains.
    blocks = {name.split("encoder.layers.")[1].split(".")[0] for name in kept if "vision_tower" in name}
    assert blocks == {"1"}


@pytest.mark.slow
def test_killed_and_resumed_it_ends_as_if_it_had_not_been(path: Path, tmp_path: Path) -> None:
    assert fit_apart(path, tmp_path / "whole") == 0
    kill = Kill(at="vlm_lit.training.step:StepModule._backward", call=7)
    assert fit_apart(path, tmp_path / "killed", kill=kill) == -9
    assert fit_apart(path, tmp_path / "killed", "--ckpt_path", "last") == 0
    assert Outcome.of(tmp_path / "killed") == Outcome.of(tmp_path / "whole")


@pytest.mark.slow
def test_it_is_tested_merged_and_verified(path: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["fit", "--config", str(path)]) == 0
    run = run_dir(path)
    assert main(["test", "--config", str(path), "--model.init_args.adapter", str(run / "adapter")]) == 0
    assert main(["merge", str(run), "--output", str(tmp_path / "merged"), "--dtype", "fp32"]) == 0
    capsys.readouterr()
    assert main(["verify", "--config", str(path), "--format", "json"]) == 0
    found = {one["name"]: one["verdict"] for one in json.loads(capsys.readouterr().out)}
    assert found["cached"] == "equal"


@pytest.mark.slow
def test_other_blocks_have_another_store_and_are_not_resumed(path: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["fit", "--config", str(path)]) == 0
    (first,) = (tmp_path / "store").iterdir()
    edited(path, {"model.init_args.parts.vision_tower": {"precision": "fp32"}})
    assert main(["fit", "--config", str(path), "--run_dir", str(tmp_path / "frozen")]) == 0
    assert {*(tmp_path / "store").iterdir()} > {first}
    edited(
        path,
        {"model.init_args.parts.vision_tower": {**TOWER, "last_layers": None}, "data.init_args.feature_cache": None},
    )
    said = refusal(capsys, "fit", "--config", str(path), "--ckpt_path", "last")
    assert "parts" in said


@pytest.mark.parametrize(
    ("tower", "said"),
    [
        ({**TOWER, "last_layers": 2}, "2 blocks of this checkpoint's tower are used. Set it to a number from 1 to 1"),
        ({**TOWER, "training": "full"}, "it goes with training: lora"),
        ({**TOWER, "training": "frozen"}, "there is nothing to train"),
        ({**TOWER, "last_layers": None}, "set vision_tower.last_layers"),
    ],
)
def test_what_cannot_be_is_refused(tower: dict[str, object], said: str, path: Path, capsys: Capture) -> None:
    assert said in refusal(capsys, "fit", "--config", str(edited(path, {"model.init_args.parts.vision_tower": tower})))


@pytest.mark.slow
def test_budget_counts_the_states_at_the_boundary(path: Path, capsys: Capture) -> None:
    sizes = []
    for tower in (TOWER, {"precision": "fp32"}):
        edited(path, {"model.init_args.parts.vision_tower": tower})
        assert main(["budget", "--config", str(path), "--format", "json"]) == 0
        sizes.append(json.loads(capsys.readouterr().out))
    assert sizes[0] != sizes[1]
