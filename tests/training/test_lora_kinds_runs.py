"""Tests of runs with the adapters that researchers compare: verified, killed and resumed, merged, opened, on two ranks.

Each kind is a few steps on a tiny LLaVA whose language model is in 4 bits, as in the tests of plain LoRA.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.test_adapter_state import logits
from tests.support import rank_runs, small_config, small_data, tiny_models
from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.pairs import preference_config
from tests.support.rank_runs import Job
from tests.support.refusals import refusal
from tests.support.runs import checkpoint, fit, scalars
from vlm_lit.cli import main
from vlm_lit.models.adapter_state import WEIGHTS, trainable_state
from vlm_lit.models.frozen_start import lora_layers, start_state
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.eva_start import _batches
from vlm_lit.training.opened_model import open_model

Config = Callable[..., Path]

FP32 = {"precision": "fp32"}


def parts(precision: str) -> dict[str, Any]:
    language = {"precision": precision, "training": "lora"}
    projector = {**FP32, "training": "full"}
    return {"vision_tower": FP32, "projector": projector, "language_model": language, "head": FP32}


KINDS: dict[str, dict[str, Any]] = {
    "rank_stabilised": {"lora": {"scaling": "rank_stabilised"}},
    "dora": {"lora": {"dora": True}},
    "lora_plus": {"lora": {"b_lr_ratio": 16.0}},
    "ranks": {"lora": {"ranks": {"q_proj": 4, r"layers\.1\..*": 3}}},
    "pissa": {"lora": {"start": "pissa", "rank": 8}},
    "loftq": {"lora": {"start": "loftq", "rank": 8}},
    "eva": {"lora": {"start": "eva", "rank": 8}},
    "fp4": {"lora": {}, "parts": parts("fp4")},
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def written(config: Config, kind: str, *, dropout: float = 0.1, **trainer: Any) -> Path:
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 1},
    }
    model = {**KINDS[kind], "lora": {"dropout": dropout, **KINDS[kind]["lora"]}}
    return config(model=model, trainer={"max_epochs": 2, "callbacks": [keeper], **trainer})


@pytest.mark.slow
@EVERY
def test_every_equality_holds(kind: str, tiny_llava: Path, tmp_path: Path) -> None:
    small_data.write_conversations(tmp_path, 8, turns=1, prefix="train")
    rows = json.loads((tmp_path / "train.json").read_text())
    for i, row in enumerate(rows):
        row["image"] = f"images/train{i // 4}.png"  # four questions a picture, which share a row
    (tmp_path / "train.json").write_text(json.dumps(rows))
    out, model = tmp_path / "found.json", {**KINDS[kind], "lora": {"dropout": 0.0, **KINDS[kind]["lora"]}}
    path = str(small_config.write(tmp_path, tiny_llava, tmp_path, model=model, data={"val": None}))
    assert main(["verify", "--config", path, "--conversations", "4", "--format", "json", "--output", str(out)]) == 0
    found = {row["name"]: row for row in json.loads(out.read_text())}
    assert {row["verdict"] for row in found.values()} == {"equal"}
    assert found["reloaded"]["gradient"] == 0.0


@pytest.mark.slow(but_first=True)
@EVERY
def test_killed_and_resumed_it_is_the_run_never_killed_and_merges(kind: str, config: Config, tmp_path: Path) -> None:
    path = written(config, kind)
    assert fit_apart(path, tmp_path / "whole") == 0
    kill = Kill(at="vlm_lit.training.step:StepModule._backward", call=11)
    assert fit_apart(path, tmp_path / "killed", kill=kill) == -9
    assert fit_apart(path, tmp_path / "killed", "--ckpt_path", "last") == 0
    whole = Outcome.of(tmp_path / "whole")
    assert Outcome.of(tmp_path / "killed") == whole
    losses = [float.fromhex(value) for _, value in whole.figures["train/loss"]]
    assert losses[-1] < losses[0]
    # `merge` refuses a merged model that is not base + adapter.
    assert main(["merge", str(tmp_path / "whole"), "--output", str(tmp_path / "merged")]) == 0


@pytest.mark.slow(but_first=True)
@EVERY
def test_opened_again_it_is_the_model_that_was_trained(kind: str, config: Config, tmp_path: Path) -> None:
    run = fit(written(config, kind), "--run_dir", str(tmp_path / "opened"))
    expected = logits(run.model.model)
    assert torch.equal(logits(open_model(str(tmp_path / "opened")).model), expected)


@pytest.mark.slow(but_first=True)
@EVERY
def test_another_kind_is_refused_on_resumption(kind: str, config: Config, tmp_path: Path, capsys: Any) -> None:
    path = written(config, kind, max_steps=2)
    assert fit_apart(path, tmp_path / "run") == 0
    if kind == "fp4":
        asked, named = "--model.init_args.parts.language_model.precision=nf4", "precision (was fp4, is nf4)"
    else:
        name, was = next((n, v) for n, v in KINDS[kind]["lora"].items() if n != "rank")
        other = {"ranks": "null", "start": "random", "scaling": "alpha_over_rank", "dora": "false"}.get(name, "1.0")
        asked, named = f"--model.init_args.lora.{name}={other}", f"lora.{name}"
        named = named if name == "ranks" else f"{named} (was {was}, is "
    words = ["fit", "--config", str(path), "--run_dir", str(tmp_path / "run"), "--ckpt_path", "last", asked]
    assert named in refusal(capsys, *words)


def test_b_steps_faster_than_a(config: Config, tmp_path: Path) -> None:
    fit(written(config, "lora_plus"), "--run_dir", str(tmp_path / "run"))
    rates = {
        tag.removeprefix("train/learning_rate/"): [value for _, value in values]
        for tag, values in scalars(tmp_path / "run").items()
        if tag.startswith("train/learning_rate/")
    }
    assert rates.keys() == {"projector", "language_model", "language_model/lora_B"}
    for slow, fast in zip(rates["language_model"], rates["language_model/lora_B"], strict=True):
        assert fast == pytest.approx(16 * slow, rel=1e-6)  # warmup and decay scale both
    groups = checkpoint(tmp_path / "run", 6)["optimizer_states"][0]["param_groups"]
    assert [group["name"] for group in groups] == ["projector", "language_model", "language_model/lora_B"]


def test_eva_spans_what_the_inputs_vary_in(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # An independent computation: the spread of a layer's inputs over the drawn conversations, by one whole SVD.
    shares: dict[str, float] = {}

    def look(module: Any) -> None:
        start(module)
        found = dict(lora_layers(module.model))
        seen: dict[str, list[Tensor]] = {name: [] for name in found}
        hooks = [
            layer.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0]))
            for name, layer in found.items()
        ]
        batches = _batches(module.data, module.seed)
        with torch.no_grad():
            for batch in batches:
                module.eval().hidden_states(batch)
        for hook in hooks:
            hook.remove()
        masks = [batch.inputs["attention_mask"].bool() for batch in batches]
        for name, layer in found.items():
            inputs_TI = torch.cat([given[mask] for given, mask in zip(seen[name], masks, strict=True)])
            inputs_TI = inputs_TI - inputs_TI.mean(0)
            a_RI = layer.lora_A["default"].weight.detach()
            torch.testing.assert_close(a_RI @ a_RI.T, torch.eye(8), rtol=1e-3, atol=1e-3)
            shares[name] = float((inputs_TI @ a_RI.T).norm() ** 2 / (torch.linalg.svdvals(inputs_TI)[:8] ** 2).sum())
            assert not layer.lora_B["default"].weight.any()

    start = AnsweredModule.start_at_inputs
    monkeypatch.setattr(AnsweredModule, "start_at_inputs", look)
    fit(written(config, "eva", max_steps=1), "--run_dir", str(tmp_path / "run"))
    assert len(shares) == 8
    assert all(0.95 < share < 1.001 for share in shares.values())


def test_eva_is_refused_where_its_rank_cannot_be(config: Config, tmp_path: Path, capsys: Any) -> None:
    path = config(model={"lora": {"start": "eva", "rank": 65}})
    words = ["fit", "--config", str(path), "--run_dir", str(tmp_path / "run")]
    assert "larger than its 64 inputs" in refusal(capsys, *words)


def test_loftq_is_no_start_for_a_reference(
    tiny_llava: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = preference_config(tmp_path, tiny_llava, pairs, model={"lora": {"start": "loftq", "rank": 8}})
    words = ["fit", "--config", str(path), "--run_dir", str(tmp_path / "run")]
    assert "the reference of a preference run is that base" in refusal(capsys, *words)


def test_an_anatomy_of_loftq_is_refused(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(written(config, "loftq", max_steps=1), "--run_dir", str(tmp_path / "run"))
    assert "had lost beside what was learned" in refusal(capsys, "anatomy", str(tmp_path / "run"))


STARTS = ("pissa", "loftq", "eva")


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The directory of a kind's run on so many ranks; all kinds are run one after another in one launch."""
    root = tmp_path_factory.mktemp("ranks")
    llava, mixed = tiny_models.save_llava(root / "llava"), rank_runs.write_mixed(root / "mixed")
    for world in (1, 2):
        jobs = []
        for kind in (*STARTS, "dora", "lora_plus"):
            place = root / f"{kind}{world}"
            place.mkdir()
            sgd = {"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05}
            model: dict[str, object] = {**sgd, "lora": {"dropout": 0.0, **KINDS[kind]["lora"]}}
            trainer: dict[str, object] = {"max_epochs": 1, **({"strategy": "ddp", "devices": 2} if world > 1 else {})}
            data: dict[str, object] = {"effective_batch": 4, "micro_batch": 1, "val": None}
            path = small_config.write(place, llava, mixed, model=model, data=data, trainer=trainer)
            jobs.append(Job(words=("fit", "--config", str(path), "--run_dir", str(place / "run"))))
        rank_runs.finished(world, jobs, root / f"said{world}")
    return lambda kind, world: root / f"{kind}{world}" / "run"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STARTS, "dora", "lora_plus"])
def test_two_ranks_are_one(kind: str, on_ranks: Callable[[str, int], Path]) -> None:
    one, two = (load_file(on_ranks(kind, world) / "adapter" / WEIGHTS) for world in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_start_is_kept_in_checkpoints_and_not_computed_again(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(config, "pissa", max_steps=2)
    first = fit(path, "--run_dir", str(tmp_path / "run"))
    kept = checkpoint(tmp_path / "run", 2)["lora_start"]
    assert kept.keys() == start_state(first.model.model).keys()
    monkeypatch.setattr("vlm_lit.training.module.start_at_principal", lambda _: pytest.fail("computed again"))
    again = fit(path, "--run_dir", str(tmp_path / "run"), "--ckpt_path", "last", "--trainer.max_steps=4")
    for name, matrix in start_state(again.model.model).items():
        assert torch.equal(matrix, kept[name])
    assert trainable_state(again.model).keys() == trainable_state(first.model).keys()
