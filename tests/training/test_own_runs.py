"""Tests of what a run goes on from: checkpoints of its own data, base, optimizer, precision and ranks alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vlm_lit
from tests.support import class_runs
from tests.support.pairs import preference_config
from tests.support.plain_runs import quiet_trainer
from tests.support.refusals import refusal
from tests.support.runs import run_dir, verb
from vlm_lit.errors import ConfigError

Config = Callable[..., Path]


@pytest.fixture
def begun(config: Config) -> Path:
    """The config of a run that has come to step 3 of 3."""
    path = config(trainer={"limit_val_batches": 0})
    assert verb("fit", path) == 0
    return path


def resumed(path: Path, *more: str) -> list[str]:
    return ["fit", "--config", str(path), "--ckpt_path", "last", *more]


def changed(begun: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A checkpoint as another run would have written it."""
    path = run_dir(begun) / "checkpoints" / "step-000003.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.slow
def test_another_precision_attention_or_option_is_refused(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in {
        "--trainer.precision=bf16-mixed": "trainer.precision (was null, is bf16-mixed)",
        "--model.init_args.attention=eager": "model.init_args.attention (was null, is eager)",
        "--data.init_args.system=Be brief.": "data.init_args.system (was null, is Be brief.)",
        "--model.init_args.optimizer.init_args.weight_decay=0.1": "weight_decay (was ",
    }.items():
        assert said in refusal(capsys, *resumed(begun, option)), option


def test_records_in_another_order_are_other_data(
    begun: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(small, moved)
    file = moved / "train.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(rows[::-1]))
    assert file.stat().st_size == (small / "train.json").stat().st_size
    error = refusal(capsys, *resumed(begun, f"--data.init_args.train.path={file}"))
    assert "The train data are not those that the checkpoint was made with: train.json (was " in error


@pytest.mark.slow
def test_an_edited_base_config_is_refused_by_its_key(
    config: Config, tiny_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_llava, base)
    path = config(model={"model_id": str(base)}, trainer={"limit_val_batches": 0})
    assert verb("fit", path) == 0
    settings = json.loads((base / "config.json").read_text())
    settings["text_config"]["rms_norm_eps"] = 0.5
    settings["transformers_version"] = "5.0.0"  # who wrote it changes nothing
    (base / "config.json").write_text(json.dumps(settings))
    said = "made with another base_config.text_config.rms_norm_eps (was 1e-06, is 0.5). Use"
    assert said in refusal(capsys, *resumed(path))
    assert said in refusal(capsys, "test", "--config", str(path), "--ckpt_path", "last")


def test_another_number_of_processes_goes_on_and_is_said(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed(begun, lambda content: content["course"].update(world_size=2))
    assert verb("fit", begun, "--ckpt_path", "last") == 0
    assert "was made by 2 ranks and this run has 1: its step batches are the same" in caplog.text


def test_so_do_other_micro_batches(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = "The checkpoint was made with another"
    assert verb("fit", begun, "--ckpt_path", "last", "--trainer.max_epochs=2") == 0
    assert said not in caplog.text
    assert verb("fit", begun, "--ckpt_path", "last", "--trainer.max_epochs=3", "--data.init_args.micro_batch=8") == 0
    assert f"{said} micro_batch (was 3, is 8): its loss and gradients are the same, up to" in caplog.text


def test_a_checkpoint_of_an_earlier_version_lacks_what_was_not_looked_at_then(begun: Path) -> None:
    def of_then(content: dict[str, Any]) -> None:
        for name in ("base_config", "optimizer"):
            del content[name]
        for name in ("train_source", "module", "precision", "attention", "world_size", "micro_batch", "micro_tokens"):
            del content["course"][name]

    changed(begun, of_then)
    assert verb("fit", begun, "--ckpt_path", "last") == 0


# Without a config ------------------------------------------------------------------------------------------


@pytest.fixture(params=["supervised", "preference", "classifier"])
def kind(
    request: pytest.FixtureRequest, config: Config, tiny_llava: Path, pairs: Path, tmp_path: Path
) -> tuple[str, Path]:
    """A config of each kind of module."""
    name: str = request.param
    if name == "supervised":
        return name, config()
    if name == "preference":
        return name, preference_config(tmp_path, tiny_llava, pairs)
    class_runs.write_questions(tmp_path, "train", 12)
    class_runs.write_questions(tmp_path, "val", 6)
    return name, class_runs.write_config(tmp_path, class_runs.checkpoint(tmp_path / "vilt"), tmp_path)


KINDS: dict[str, tuple[Any, Any]] = {
    "supervised": (vlm_lit.SupervisedModule, vlm_lit.ConversationDataModule),
    "preference": (vlm_lit.PreferenceModule, vlm_lit.PreferenceDataModule),
    "classifier": (vlm_lit.ClassifierModule, vlm_lit.ClassifierDataModule),
}


def run_in_python(kind: str, path: Path, folder: Path, more: dict[str, Any], ckpt_path: Path | None = None) -> None:
    """A run of two steps by a script's own Trainer."""
    settings = yaml.safe_load(path.read_text())
    options = {**settings["model"]["init_args"], "seed": 7, **more.get("model", {})}
    given = {**settings["data"]["init_args"], "seed": 7, "model_id": options["model_id"], **more.get("data", {})}
    trainer = quiet_trainer(folder, max_steps=2, limit_val_batches=0)
    trainer.fit(KINDS[kind][0](**options), datamodule=KINDS[kind][1](**given), ckpt_path=ckpt_path)


def _adamw(**options: object) -> dict[str, Any]:
    return {"model": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.0, **options}}}}


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "weight_decay": (_adamw(weight_decay=0.1), "optimizer.weight_decay (was 0.0, is 0.1)"),
    "betas": (_adamw(betas=[0.8, 0.9]), "optimizer.betas (was [0.9, 0.999], is [0.8, 0.9])"),
    "optimizer": (
        {"model": {"optimizer": "torch.optim.SGD"}},
        "optimizer (was torch.optim.adamw.AdamW, is torch.optim.sgd.SGD)",
    ),
    "attention": ({"model": {"attention": "eager"}}, "attention (was sdpa, is eager)"),
    "source": (
        {"data": {"train": {"path": "PATH", "ignore_keys": ["answer_type"]}}},
        "train_source.ignore_keys (was null, is ['answer_type'])",
    ),
}
OF_KIND = {
    "supervised": ({"data": {"system": "Be brief."}}, "system (was null, is Be brief.)"),
    "preference": ({"model": {"losses": [{"name": "ipo"}]}}, "module.losses (was null, is ["),
    "classifier": ({"model": {"objective": "softmax"}}, "module.objective (was binary, is softmax)"),
}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_in_python_another_run_is_refused_by_key_and_values(kind: tuple[str, Path], tmp_path: Path) -> None:
    name, path = kind
    run_in_python(name, path, tmp_path / "begun", {})
    kept = max((tmp_path / "begun").rglob("step-*.ckpt"))
    file = yaml.safe_load(path.read_text())["data"]["init_args"]["train"]["path"]
    for what, (more, said) in {**OTHER, "own": OF_KIND[name]}.items():
        if what == "attention" and name == "classifier":
            continue  # ViLT has one
        given = json.loads(json.dumps(more).replace("PATH", file))
        with pytest.raises(ConfigError) as error:
            run_in_python(name, path, tmp_path / what, given, kept)
        assert said in str(error.value), what
    run_in_python(name, path, tmp_path / "again", {}, kept)
