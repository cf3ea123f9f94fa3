"""Tests of the run directory: adapter, results, predictions, panel and hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.runs import checkpoint, fit, predictions, run_dir, verb

Config = Callable[..., Path]


@pytest.fixture
def finished(config: Config) -> Path:
    path = config()
    fit(path)
    assert verb("test", path, "--ckpt_path", "last") == 0
    return run_dir(path)


def test_a_run_directory_holds_everything(finished: Path) -> None:
    names = {p.name for p in finished.iterdir() if not p.name.startswith("events.")}
    assert names == {"config.yaml", "config.test.yaml", "hparams.yaml", "shortcuts.json", "adapter", "checkpoints",
                     "predictions.jsonl", "predictions.png", "results.json", "confusion.json",
                     "confusion.png"}  # fmt: skip
    assert any(p.name.startswith("events.out.tfevents") for p in finished.iterdir())
    rows = predictions(finished)
    fields = ["id", "image", "image_id", "question", "references", "prediction", "score", "groups"]
    assert list(rows[0]) == [*fields, "unfinished"]  # of an untrained model, which ends no turn in time
    assert [row["id"] for row in rows] == [f"val{i}" for i in range(6)]
    assert rows[0]["references"] == ["red"]
    results = json.loads((finished / "results.json").read_text())
    assert results["n"] == 6
    assert results["split"] == "test"
    assert results["global_step"] == 3
    assert results["metrics"]["vqa_accuracy"] == sum(row["score"] for row in rows) / 6
    assert torch.__version__.startswith(results["versions"]["torch"])  # the CUDA build adds its own +cu130


def test_a_checkpoint_holds_trained_weights_only(finished: Path) -> None:
    kept = checkpoint(finished, 3)
    assert len(kept["state_dict"]) == 20
    assert all("lora_" in name or "modules_to_save" in name for name in kept["state_dict"])
    assert not any("multi_modal_projector.original_module" in name for name in kept["state_dict"])


@pytest.mark.slow
def test_the_config_is_the_users_and_runs_again(finished: Path) -> None:
    written = yaml.safe_load((finished / "config.yaml").read_text())
    assert written["trainer"]["max_epochs"] == 1
    assert verb("validate", finished / "config.yaml") == 0
    assert json.loads((finished / "val_results.json").read_text())["split"] == "val"


def test_the_panel_and_hyperparameters_are_in_tensorboard(finished: Path) -> None:
    events = EventAccumulator(str(finished), size_guidance={"images": 0})
    events.Reload()
    drawn = {f"{group}/{name}" for group in ("val_images", "zz_test") for name in ("predictions", "confusion")}
    assert drawn == set(events.Tags()["images"])
    assert "epoch" not in events.Tags()["scalars"]
    with Image.open(finished / "predictions.png") as panel:
        assert panel.size == (4 * 216, 2 * 304)
    hyperparameters = yaml.safe_load((finished / "hparams.yaml").read_text())
    assert hyperparameters["model.lora.rank"] == 16


def test_the_tested_checkpoint_is_the_trained_model(finished: Path, config: Config) -> None:
    by_checkpoint = predictions(finished)
    again = config()
    assert verb("test", again, "--model.init_args.adapter", str(finished / "adapter")) == 0
    assert predictions(run_dir(again)) == by_checkpoint


def test_last_without_a_checkpoint_is_an_error_not_a_restart(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config()
    assert verb("fit", path, "--ckpt_path", "last") == 2
    assert "holds no checkpoint to go on from" in capsys.readouterr().err
    assert not run_dir(path).exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_rank_is_refused(
    finished: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(model={"lora": {"rank": 4}})
    kept = finished / "checkpoints" / "step-000003.ckpt"
    assert verb("test", path, "--ckpt_path", str(kept)) == 2
    assert "made with another lora.rank (was 16, is 4)" in capsys.readouterr().err


def test_predict_writes_unjudged_answers(config: Callable[..., Path], small: Path) -> None:
    path = config(data={"predict": {"path": str(small / "val.json")}})
    assert verb("predict", path) == 0
    written = (run_dir(path) / "predict_predictions.jsonl").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["id"] for line in lines] == [f"val{i}" for i in range(6)]
    assert {line["score"] for line in lines} == {None}
