"""Tests of numbers that are none: such weights are never kept, and such scores are no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.class_runs import checkpoint as vilt_checkpoint
from tests.support.class_runs import write_config, write_questions
from tests.support.refusals import refusal
from tests.support.runs import fit, run_dir, verb
from vlm_lit.errors import VlmLitError
from vlm_lit.models.adapter_state import WEIGHTS, file_sha256, save_adapter
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints
from vlm_lit.training.module import VisionLanguageModule

Config = Callable[..., Path]
# One step this large overflows float32, and it is the last one.
DIVERGES = {"learning_rate": 1e38, "warmup_ratio": 0.0, "gradient_clip": None, "schedule": "constant"}
SGD = {"class_path": "torch.optim.SGD"}


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """The config of a classifier."""
    write_questions(tmp_path, "train", 12)
    write_questions(tmp_path, "val", 6)
    return write_config(tmp_path, vilt_checkpoint(tmp_path / "vilt"), tmp_path)


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step's weights overflow: the optimizer adds what no float32 holds."""
    step = torch.optim.AdamW.step

    def too_far(self: torch.optim.AdamW, closure: None = None) -> None:
        step(self, closure)
        counts = [int(state["step"]) for state in self.state.values()]
        if max(counts) == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].mul_(1e30).mul_(1e30)

    monkeypatch.setattr(torch.optim.AdamW, "step", too_far)


@pytest.mark.slow
@pytest.mark.usefixtures("diverging")
def test_weights_that_the_last_step_made_infinite_are_not_kept(
    either_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = either_config(trainer={"limit_val_batches": 0})
    assert verb("fit", path, "--trainer.max_steps=2") == 0
    before = file_sha256(run_dir(path) / "adapter" / "adapter_model.safetensors")
    error = refusal(capsys, "fit", "--config", str(path), "--ckpt_path=last", "--trainer.max_steps=3")
    assert "weight tensors after step 3 are not finite (first: model." in error
    assert [p.name for p in checkpoints(run_dir(path) / FOLDER)] == ["step-000002.ckpt"]
    assert file_sha256(run_dir(path) / "adapter" / "adapter_model.safetensors") == before


@pytest.mark.usefixtures("diverging")
def test_nor_is_the_adapter_where_nothing_else_is_kept(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(trainer={"limit_val_batches": 0, "enable_checkpointing": False})
    assert "are not finite" in refusal(capsys, "fit", "--config", str(path))
    assert not (run_dir(path) / "adapter").exists()
    assert not [p for p in run_dir(path).iterdir() if p.name.startswith(".adapter")]


def test_an_adapter_is_looked_at_by_itself_as_well(config: Config, tmp_path: Path) -> None:
    model = fit(config(), "--trainer.max_steps=1", "--trainer.limit_val_batches=0").model.model
    save_adapter(model, tmp_path / "adapter", {})
    before = file_sha256(tmp_path / "adapter" / WEIGHTS)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("inf"))
    with pytest.raises(VlmLitError, match="1 of 20 weight tensors are not finite"):
        save_adapter(model, tmp_path / "adapter", {})
    assert file_sha256(tmp_path / "adapter" / WEIGHTS) == before


@pytest.fixture
def broken_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model one of whose trained weights is NaN."""
    load = VisionLanguageModule._load

    def loaded(self: VisionLanguageModule) -> None:
        load(self)
        with torch.no_grad():
            self.trainable_parameters()[-1].fill_(float("nan"))

    monkeypatch.setattr(VisionLanguageModule, "_load", loaded)


OPTIONS = {
    "generated": [],
    "generated, a row each": ["--data.init_args.packing=false"],
    "chosen from a list": ["--model.init_args.answer_from=[red, blue]"],
    "chosen, a row each": ["--model.init_args.answer_from=[red, blue]", "--data.init_args.packing=false"],
}


@pytest.mark.slow(but_first=True)
@pytest.mark.usefixtures("broken_weights")
@pytest.mark.parametrize("more", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("name", ["test", "validate"])
def test_a_test_with_scores_that_are_no_numbers_is_an_error(
    name: str, more: list[str], config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config()
    error = refusal(capsys, name, "--config", str(path), *more)
    assert "The model's scores are not finite, so that they say no answer." in error
    assert "Questions: val0, val3, val4, val1, val5, val2." in error
    assert not list(run_dir(path).glob("*results.json"))


@pytest.mark.usefixtures("broken_weights")
@pytest.mark.parametrize("name", ["test", "validate"])
def test_a_classifiers_too(name: str, classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, name, "--config", str(classifier))
    assert "The model's scores are not finite" in error
    assert not list(run_dir(classifier).glob("*results.json"))


@pytest.mark.usefixtures("broken_weights")
def test_a_validation_by_loss_is_an_error_as_well(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(data={"validate_by": "loss"})
    assert "The loss of val0, val3, val4 is nan" in refusal(capsys, "validate", "--config", str(path))
