"""Tests of a module that is none of ours: trained, tested, pictured, inspected and verified like ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning import LightningModule

from tests.support.refusals import edited
from tests.support.runs import predictions, run_dir, scalars, verb
from vlm_lit.cli import main
from vlm_lit.training.module import VisionLanguageModule

Config = Callable[..., Path]
PATH = "tests.support.foreign_module.Foreign"


@pytest.fixture
def foreign(config: Config, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "tests")
    path = config()
    model_id = edited(path, {}).read_text().split("model_id: ")[-1].splitlines()[0]
    return edited(path, {"model": {"class_path": PATH, "init_args": {"model_id": model_id}}})


def test_it_is_none_of_ours() -> None:
    from tests.support.foreign_module import Foreign

    assert Foreign.__bases__ == (LightningModule,)
    assert not issubclass(Foreign, VisionLanguageModule)


def test_it_is_trained_tested_and_pictured(foreign: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert verb("fit", foreign) == 0
    folder = run_dir(foreign)
    losses = [loss for _, loss in scalars(folder)["train/loss"]]
    assert losses
    assert losses[-1] < losses[0]
    assert {"config.yaml", "shortcuts.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    shortcuts = json.loads((folder / "shortcuts.json").read_text())
    assert shortcuts["packing"] is False
    assert "Foreign does not say that it keeps them apart" in shortcuts["packing_refused"]
    assert not (folder / "adapter").exists()
    assert "Foreign has no PEFT adapter, so none is written" in caplog.text
    assert verb("test", foreign, "--ckpt_path", "last") == 0
    results = json.loads((folder / "results.json").read_text())
    lines = predictions(folder)
    assert results["n"] == len(lines) > 0
    assert results["metrics"] == {"right": sum(line["score"] for line in lines) / len(lines)}
    assert results["global_step"] == len(losses)
    assert (folder / "predictions.png").is_file()


def test_it_is_inspected(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--config", str(foreign), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gradient_flow"] == {"unmoved_trainable": [], "moved_frozen": []}
    assert all(c["image_placeholders"] == c["image_features"] > 0 for c in found["conversations"])


@pytest.mark.slow
def test_it_is_verified(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--config", str(foreign), "--conversations", "4", "--format", "json"]) == 0
    found = {equality["name"]: equality for equality in json.loads(capsys.readouterr().out)}
    equal = {name for name, e in found.items() if e["verdict"] == "equal"}
    assert equal == {"mask", "accumulated", "generated", "plain", "sharded"}
    assert found["frozen-sharded"]["note"] == "not checked: Foreign does not split its base"
    assert found["reloaded"]["note"] == "Foreign keeps no PEFT adapter"
