"""Tests of a run's image settings with all who take its weights over: resuming, evaluating, chat, merge, cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support import plain_runs, small_config, tiny_models
from tests.support.runs import checkpoint, fit, predictions, verb
from vlm_lit.cli import main
from vlm_lit.commands.merge_run import merge_run
from vlm_lit.data.checkpoint.processors import load_processor, processor_identity
from vlm_lit.training.feature_cache import _images_only
from vlm_lit.training.opened_model import open_model

Capture = pytest.CaptureFixture[str]
SET: dict[str, Any] = {"image_processor": {"resample": 0}, "pad_to_square": True}


@pytest.fixture(scope="module")
def trained(tiny_llava: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with settings of its own; tests that change it work on copies."""
    folder = tmp_path_factory.mktemp("trained")
    fit(small_config.write(folder, tiny_llava, small, data=SET))
    return folder / "run"


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "run_dir": str(run)}))
    return run


def fingerprint(run: Path) -> dict[str, Any]:
    found = json.loads((run / "adapter" / "fingerprint.json").read_text())
    assert isinstance(found, dict)
    return found


def forgotten(run: Path) -> None:
    """Make checkpoint and adapter those of a run without settings."""
    path = run / "checkpoints" / "step-000003.ckpt"
    kept = checkpoint(run, 3)
    kept["processor"].pop("image_settings")
    torch.save(kept, path)
    found = fingerprint(run)
    found["processor"].pop("image_settings")
    (run / "adapter" / "fingerprint.json").write_text(json.dumps(found))


def test_fingerprint_and_checkpoint_have_them(trained: Path) -> None:
    assert fingerprint(trained)["processor"]["image_settings"] == SET
    assert checkpoint(trained, 3)["processor"] == fingerprint(trained)["processor"]


def test_a_run_goes_on_with_them_and_not_without(finished: Path, capsys: Capture) -> None:
    assert verb("fit", finished / "config.yaml", "--ckpt_path", "last") == 0
    capsys.readouterr()
    assert verb("fit", finished / "config.yaml", "--ckpt_path", "last", "--data.init_args.pad_to_square=false") == 2
    assert "data.init_args.pad_to_square (was True, is False)" in capsys.readouterr().err


def test_a_checkpoint_without_them_is_not_resumed(finished: Path, capsys: Capture) -> None:
    forgotten(finished)
    assert verb("fit", finished / "config.yaml", "--ckpt_path", "last") == 2
    said = capsys.readouterr().err
    assert (
        'trained with image_processor {} and pad_to_square false, and this run has image_processor {"resample"' in said
    )
    assert "Set data.init_args.image_processor and data.init_args.pad_to_square as it was." in said


def test_an_evaluation_with_other_settings_is_warned_of(finished: Path) -> None:
    arguments = ("--model.init_args.adapter", str(finished / "adapter"), "--data.init_args.pad_to_square=false")
    with pytest.warns(UserWarning, match=r"trained with pad_to_square true, and this run has pad_to_square false"):
        assert verb("test", finished / "config.yaml", *arguments) == 0
    assert len(predictions(finished)) == 6


def test_what_is_opened_for_a_chat_has_them(trained: Path) -> None:
    opened = open_model(str(trained))
    assert processor_identity(opened.encoder.processor) == fingerprint(trained)["processor"]
    assert opened.notes == ()


def test_a_merged_model_has_them_in_its_files(trained: Path, tmp_path: Path) -> None:
    merged = merge_run(trained, tmp_path / "merged", dtype="fp32")
    assert not merged.warnings
    now, was = processor_identity(load_processor(str(tmp_path / "merged"))), fingerprint(trained)["processor"]
    assert now == {key: value for key, value in was.items() if key != "image_settings"}
    card = (tmp_path / "merged" / "README.md").read_text()
    assert f"onto the base, with the processor above: the run set {json.dumps(SET)} for its images:" in card
    picture = tiny_models.picture(0, (90, 30))
    by_run, by_merged = open_model(str(trained)), open_model(str(tmp_path / "merged"))
    one, other = (
        opened.encoder.processor(text=["<image>"], images=[[picture]], return_tensors="pt")["pixel_values"]
        for opened in (by_run, by_merged)
    )
    assert torch.equal(one, other)


def test_stored_features_are_of_one_setting(config: Callable[..., Path]) -> None:
    kept = [_images_only(plain_runs.data_of(config(data=data))) for data in ({}, SET, {"pad_to_square": True})]
    assert len({json.dumps(identity, sort_keys=True) for identity in kept}) == 3


def test_a_mistyped_setting_is_refused_before_any_weight_is_loaded(
    config: Callable[..., Path], capsys: Capture
) -> None:
    assert main(["fit", "--config", str(config()), "--data.init_args.image_processor.resampel=0"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "image_processor.resampel is not a setting of CLIPImageProcessor" in said
    assert "Did you mean resample?" in said


def test_inspect_shows_the_run_with_them(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(data=SET)
    assert main(["inspect", "--config", str(path), "--output", str(tmp_path / "inspected")]) == 0
