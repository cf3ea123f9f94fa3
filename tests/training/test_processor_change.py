"""Tests of a changed processor: told of, or refused, where images are prepared otherwise than in training."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers.utils import is_torchvision_available

from tests.support.runs import checkpoint, fit, predictions, run_dir, verb
from vlm_lit.cli import main

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

with_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
OTHER = {"image_backend": "torchvision", "image_processor_class": "CLIPImageProcessor"}


@pytest.fixture(scope="module")
def trained(tiny_llava: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run for all tests here; they work on copies."""
    from tests.support import small_config

    folder = tmp_path_factory.mktemp("trained")
    fit(small_config.write(folder, tiny_llava, small))
    return folder / "run"


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, its config pointing at itself."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "run_dir": str(run)}))
    return run


def made_with(run: Path, **changes: Any) -> None:
    """Make run and adapter those of another processor."""
    path = run / "checkpoints" / "step-000003.ckpt"
    kept = checkpoint(run, 3)
    torch.save({**kept, "processor": {**kept["processor"], **changes}}, path)
    path = run / "adapter" / "fingerprint.json"
    fingerprint = json.loads(path.read_text())
    path.write_text(json.dumps({**fingerprint, "processor": {**fingerprint["processor"], **changes}}))


def resumed(run: Path, *more: str) -> int:
    return verb("fit", run / "config.yaml", "--ckpt_path", "last", *more)


def by_adapter(run: Path, *more: str) -> int:
    return verb("test", run / "config.yaml", "--model.init_args.adapter", str(run / "adapter"), *more)


def by_checkpoint(run: Path, *more: str) -> int:
    return verb("test", run / "config.yaml", "--ckpt_path", "last", *more)


def test_checkpoint_and_fingerprint_say_what_made_the_pixels(trained: Path) -> None:
    fingerprint = json.loads((trained / "adapter" / "fingerprint.json").read_text())
    assert checkpoint(trained, 3)["processor"] == fingerprint["processor"]
    assert fingerprint["processor"]["image_backend"] == "pil"
    assert fingerprint["processor"]["image_processor_class"] == "CLIPImageProcessorPil"
    assert list(fingerprint["processor"]["image_libraries"]) == ["pillow"]


def test_the_same_processor_is_not_spoken_of(finished: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The `srun` command is available")
        assert by_adapter(finished) == 0
        assert by_checkpoint(finished) == 0
        assert resumed(finished) == 0


def test_a_checkpoint_of_the_other_backend_is_not_resumed(finished: Path, capsys: Capture) -> None:
    made_with(finished, **OTHER)
    assert resumed(finished) == 2
    said = capsys.readouterr().err
    assert "image_backend torchvision (CLIPImageProcessor), and this run has pil (CLIPImageProcessorPil)" in said
    assert "Set data.init_args.image_backend to torchvision." in said


@pytest.mark.parametrize("evaluate", [by_adapter, by_checkpoint])
def test_an_evaluation_with_the_other_backend_is_warned_of(evaluate: Callable[..., int], finished: Path) -> None:
    made_with(finished, **OTHER)
    with pytest.warns(UserWarning, match="Set data.init_args.image_backend to torchvision. Its answers may not be"):
        assert evaluate(finished) == 0
    assert len(predictions(finished)) == 6


def test_a_checkpoint_of_another_chat_template_is_not_resumed(finished: Path, capsys: Capture) -> None:
    made_with(finished, chat_template_sha256="0" * 64, image_processor={"size": 1})
    assert resumed(finished) == 2
    assert "trained with another image settings, another chat template than the files" in capsys.readouterr().err


def test_another_version_of_pillow_is_warned_of_and_goes_on(finished: Path) -> None:
    made_with(finished, image_libraries={"pillow": "1.1.7"})
    with pytest.warns(UserWarning, match=r"The adapter was trained with pillow 1\.1\.7"):
        assert by_adapter(finished) == 0
    with pytest.warns(UserWarning, match=r"checkpoint was trained with pillow 1\.1\.7, and this machine has pillow"):
        assert resumed(finished) == 0


def test_a_checkpoint_from_before_this_was_written_goes_on(finished: Path) -> None:
    kept = checkpoint(finished, 3)
    kept.pop("processor")
    torch.save(kept, finished / "checkpoints" / "step-000003.ckpt")
    assert resumed(finished) == 0


def test_an_adapter_of_others_without_a_fingerprint_is_taken(finished: Path) -> None:
    (finished / "adapter" / "fingerprint.json").unlink()
    assert by_adapter(finished) == 0


@with_torchvision
def test_with_both_installed_a_run_keeps_to_the_backend_it_began_with(config: Config, capsys: Capture) -> None:
    path = config(data={"image_backend": "torchvision"})
    fit(path)
    run = run_dir(path)
    fingerprint = json.loads((run / "adapter" / "fingerprint.json").read_text())
    assert fingerprint["processor"]["image_backend"] == "torchvision"
    with pytest.warns(UserWarning, match="Set data.init_args.image_backend to torchvision"):
        assert by_adapter(run, "--data.init_args.image_backend=pil") == 0
    assert main(["inspect", "--config", str(run / "config.yaml"), "--output", str(run / "inspected")]) == 0
    assert resumed(run) == 0
    assert resumed(run, "--data.init_args.image_backend=pil") == 2
    assert "data.init_args.image_backend (was torchvision, is pil)" in capsys.readouterr().err
