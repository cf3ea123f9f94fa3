"""Tests of equalities 5 and 10 over kinds of runs: two ranks are one, by DDP and with a split base.

Steps of 4 conversations of 13: the last one has a conversation, so that a rank has none; a rank may have no image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import class_runs, pairs, rank_runs, small_config, tiny_models
from tests.support.rank_runs import Job
from tests.support.rank_table import NoteRanks
from tests.support.runs import checkpoint, predictions, scalars

pytestmark = pytest.mark.slow
STRATEGIES = ("ddp", "frozen_sharded")
FP32 = {"precision": "fp32"}
SGD = {"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05, "activation_checkpointing": True}
STEPS: dict[str, Any] = {"effective_batch": 4, "micro_batch": 1, "eval_batch": 2}
TRAINER: dict[str, Any] = {"max_epochs": 2, "callbacks": [rank_runs.keeper(2)]}


def _language(precision: str) -> dict[str, Any]:
    projector = {**FP32, "training": "full"}
    language = {"precision": precision, "training": "lora"}
    return {"vision_tower": FP32, "projector": projector, "language_model": language, "head": FP32}


@dataclass(frozen=True)
class Given:
    """The checkpoints and data that the runs share."""

    root: Path

    @property
    @cache  # noqa: B019 - one for the module
    def llava(self) -> Path:
        """A tiny LLaVA."""
        return tiny_models.save_llava(self.root / "llava")

    @property
    @cache  # noqa: B019
    def mixed(self) -> Path:
        """Conversations, some without an image."""
        return rank_runs.write_mixed(self.root / "mixed")

    def place(self, name: str) -> Path:
        """A folder for a run's config."""
        folder = self.root / name.replace(" ", "_").replace(",", "")
        folder.mkdir(exist_ok=True)
        return folder


def _supervised(given: Given, name: str) -> Path:
    # LoRA in the last of two layers: the backward pass of a row without an image ends there, that of others does not.
    model = {**SGD, "parts": _language("nf4"), "lora": {"dropout": 0.0, "last_share": 0.5}}
    return small_config.write(given.place(name), given.llava, given.mixed, model=model, data=STEPS, trainer=TRAINER)


def _cached(given: Given, name: str) -> Path:
    folder = given.place(name)
    model = {**SGD, "parts": _language("fp32"), "activation_checkpointing": False}
    model["lora"] = {"dropout": 0.0, "targets": ["attention", "mlp"]}
    data = {**STEPS, "feature_cache": str(folder / "features"), "packing": False}
    return small_config.write(folder, given.llava, given.mixed, model=model, data=data, trainer=TRAINER)


def _preferring(given: Given, name: str) -> Path:
    folder = given.place(name)
    pairs.write_folder(folder, "pairs")
    model = {
        **SGD,
        "parts": _language("nf4"),
        "reference_store": str(folder / "reference") if "stored" in name else None,
    }
    data = {**STEPS, "train": {"path": str(folder / "train.json"), "limit": 13}}
    return pairs.preference_config(folder, given.llava, folder, model=model, data=data, trainer=TRAINER)


def _choosing(given: Given, name: str) -> Path:
    folder = given.place(name)
    class_runs.write_questions(folder, "train", 13)
    class_runs.write_questions(folder, "val", 5)
    parts = {"embeddings": FP32, "head": {**FP32, "training": "full"}}
    parts["language_model"] = {"precision": "nf4", "training": "lora"}
    base = class_runs.checkpoint(folder / "vilt")
    data = {**STEPS, "augment": {"operations": 2}}  # pictures are changed at random, on two ranks as on one
    return class_runs.write_config(folder, base, folder, model={**SGD, "parts": parts}, data=data, trainer=TRAINER)


RUNS = {
    "supervised, nf4, packed": _supervised,
    "supervised, fp32, cached": _cached,
    "preference, nf4": _preferring,
    "preference, stored": _preferring,
    "classifier, nf4": _choosing,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each run by one rank, and by two with each strategy: a fit, and the test of its weights."""
    given = Given(tmp_path_factory.mktemp("ranks"))
    configs = {name: make(given, name) for name, make in RUNS.items()}

    def jobs(ranks: str, *more: str) -> list[Job]:
        made = []
        for config in configs.values():
            where = ("--config", str(config), "--run_dir", str(config.parent / ranks))
            # The same weights on all, so that answers may be compared letter by letter.
            adapter = f"--model.init_args.adapter={config.parent / 'one' / 'adapter'}"
            made += [Job(words=("fit", *where, *more)), Job(words=("test", *where, adapter, *more))]
        return made

    rank_runs.finished(1, jobs("one"), given.root / "said_by_one")
    for strategy in STRATEGIES:
        more = (f"--trainer.strategy={strategy}", "--trainer.devices=2")
        rank_runs.finished(2, jobs(strategy, *more), given.root / f"said_{strategy}")
    return given.root


def _place(done: Path, name: str) -> Path:
    return Given(done).place(name)


def _losses(run: Path) -> list[float]:
    return [value for _, value in scalars(run)["train/loss"]]


def _adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_are_one(name: str, strategy: str, done: Path, note_ranks: NoteRanks) -> None:
    one, two = (_place(done, name) / ranks for ranks in ("one", strategy))
    expected, losses = _losses(one), _losses(two)
    assert len(losses) == len(expected) == 8
    far = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
    weights, trained = _adapter(one), _adapter(two)
    assert trained.keys() == weights.keys()
    apart = max(
        float((trained[key] - weight).abs().max() / weight.abs().max().clamp(min=1e-6))
        for key, weight in weights.items()
    )
    note_ranks(name, f"{strategy}, 2", "losses with one rank", f"{far:.1e}")
    note_ranks(name, f"{strategy}, 2", "adapter with one rank", f"{apart:.1e}")
    # float32 sums in another order: 1e-5 is some 80 rounding steps, over eight optimizer steps.
    assert far < 1e-5
    assert apart < 1e-5
    judged, expected_judgement = (json.loads((run / "results.json").read_text()) for run in (two, one))
    assert judged["n"] == expected_judgement["n"] == (6 if name.startswith("preference") else 5)
    assert judged["metrics"] == pytest.approx(expected_judgement["metrics"], rel=1e-5, abs=1e-6)
    if not name.startswith("preference"):  # which are tested by pairs
        answers, expected_answers = (sorted(predictions(run), key=lambda row: row["id"]) for run in (two, one))
        assert answers == expected_answers


@pytest.mark.parametrize("name", RUNS)
def test_a_split_base_is_a_whole_one_bit_for_bit(name: str, done: Path, note_ranks: NoteRanks) -> None:
    whole, split = (_place(done, name) / strategy for strategy in STRATEGIES)
    assert _losses(split) == _losses(whole)
    for key, weight in _adapter(whole).items():
        assert torch.equal(_adapter(split)[key], weight), key
    for step in (2, 4, 6, 8):
        _check_same(checkpoint(split, step), checkpoint(whole, step))
    note_ranks(name, "frozen_sharded, 2", "all with ddp, checkpoints too", "none")


def _check_same(found: object, expected: object, place: str = "checkpoint") -> None:
    """Equal to the last bit, every tensor and value of it."""
    assert type(found) is type(expected), place
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, expected), place
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            _check_same(found[key], value, f"{place}.{key}")
    else:
        assert found == expected, place
