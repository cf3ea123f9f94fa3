"""Tests of `verify` for a classifier: it finds the equalities of a sound run, and each broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViltForQuestionAnswering

import vlm_lit.models.class_logits as class_logits
import vlm_lit.preflight.class_verification as class_verification
from tests.support.class_runs import checkpoint, write_config, write_questions
from vlm_lit.cli import main
from vlm_lit.training.classifier import ClassifierModule

Config = Callable[..., Path]
FROZEN = {"precision": "fp32", "training": "frozen"}
FULL = {"precision": "fp32", "training": "full"}
LORA = {"precision": "fp32", "training": "lora"}


@pytest.fixture(scope="module")
def vilt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("vilt"))


@pytest.fixture
def config(vilt_folder: Path, tmp_path: Path) -> Config:
    write_questions(tmp_path, "train", 12)
    return partial(write_config, tmp_path, vilt_folder, tmp_path)


def verified(path: Path, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    out = path.parent / "verified.json"
    status = main(["verify", "--config", str(path), "--ranks", "1", "--format", "json", "--output", str(out),
                   "--data.init_args.val=null", *more])  # fmt: skip
    rows = json.loads(out.read_text())
    return status, {row["name"]: row for row in rows if not row["name"].endswith("sharded")}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"embeddings": FROZEN, "language_model": {**FULL, "last_layers": 2}},
        {"embeddings": FROZEN, "language_model": LORA},
        {"embeddings": FROZEN, "language_model": {"precision": "nf4", "training": "lora"}},
        {"embeddings": FROZEN, "language_model": FROZEN},
    ],
    ids=["all", "last two layers", "LoRA", "LoRA on NF4", "head"],
)
def test_every_equality_holds(config: Config, parts: dict[str, Any]) -> None:
    status, found = verified(config(model={"parts": parts}))
    assert {name: row["verdict"] for name, row in found.items()} == dict.fromkeys(
        ("accumulated", "plain", "answered", "drawn", "reloaded", "frozen"), "equal"
    )
    assert status == 0
    assert 0.0 <= found["accumulated"]["gradient"] < 1e-5
    assert found["reloaded"]["gradient"] == 0.0
    assert "0 of 8 answers differ" in found["answered"]["note"]


def test_the_numbers_of_frozen_and_trained_tensors_are_those_asked_for(config: Config, vilt_folder: Path) -> None:
    parts = {"embeddings": FROZEN, "language_model": {**FULL, "last_layers": 2}}
    _, found = verified(config(model={"parts": parts}))
    names = [name for name, _ in ViltForQuestionAnswering.from_pretrained(vilt_folder).named_parameters()]
    # PEFT's frozen originals of what is trained are not held.
    own = ("classifier.", "vilt.encoder.layer.2.", "vilt.encoder.layer.3.", "vilt.layernorm.", "vilt.pooler.")
    trained = [name for name in names if name.startswith(own)]
    still = len(names) - len(trained)
    assert found["frozen"]["note"] == f"{still} tensors bit for bit, {len(trained)} of {len(trained)} others moved"


def test_a_loss_that_is_a_mean_is_found(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ClassifierModule.loss
    monkeypatch.setattr(ClassifierModule, "loss", lambda self, batch: plain(self, batch) / len(batch.ids))
    status, found = verified(config())
    assert status == 1
    assert found["accumulated"]["verdict"] == "DIFFERENT"


def test_padding_that_is_looked_at_is_found(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ClassifierModule.logits

    def unmasked(self: ClassifierModule, batch: Any) -> Tensor:
        batch.inputs = {**batch.inputs, "attention_mask": torch.ones_like(batch.inputs["attention_mask"])}
        return plain(self, batch)

    monkeypatch.setattr(ClassifierModule, "logits", unmasked)
    status, found = verified(config())
    assert status == 1
    assert found["answered"]["verdict"] == "DIFFERENT"


def test_random_numbers_that_an_evaluation_draws_are_found(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_logits, "seeded_patches", lambda *_: nullcontext())
    status, found = verified(config())
    assert status == 1
    assert found["drawn"]["verdict"] == "DIFFERENT"
    assert "the random state moved" in found["drawn"]["note"]


def test_an_adapter_that_is_not_loaded_is_found(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_verification, "load_adapter", lambda *_: None)
    status, found = verified(config())
    assert status == 1
    assert found["reloaded"]["verdict"] == "DIFFERENT"


def test_a_parameter_that_is_trained_unasked_is_found(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ClassifierModule.adopt

    def thawed(self: ClassifierModule, base: Any, family: Any) -> Any:
        model = plain(self, base, family)
        base.get_parameter("vilt.encoder.layer.0.layernorm_before.weight").requires_grad_(True)
        return model

    monkeypatch.setattr(ClassifierModule, "adopt", thawed)
    parts = {"embeddings": FROZEN, "language_model": {**FULL, "last_layers": 2}}
    status, found = verified(config(model={"parts": parts}))
    assert status == 1
    assert found["frozen"]["verdict"] == "DIFFERENT"
    assert "not to be trained moved: 1," in found["frozen"]["note"]
    assert "vilt.encoder.layer.0.layernorm_before.weight" in found["frozen"]["note"]


def test_the_table_is_the_only_thing_on_standard_output(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["verify", "--config", str(config()), "--ranks=1", "--data.init_args.val=null", "--conversations=3"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "accumulated", "plain", "answered", "drawn", "reloaded", "frozen", "sharded", "frozen-sharded",
    ]  # fmt: skip


def test_random_changes_of_pictures_stay_out_of_it(config: Config) -> None:
    status, _ = verified(config(data={"augment": {"operations": 2}}))
    assert status == 0
