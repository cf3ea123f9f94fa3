"""The classifier through the command line: its answers, its loss, what trains, and runs that go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViltForQuestionAnswering

from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.runs import fit, predictions, run_dir, scalars, verb
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import ConfigError
from vlm_lit.models.parts import PartsSettings
from vlm_lit.schema import StepBatch
from vlm_lit.training.classifier import ClassifierModule

Config = Callable[..., Path]


@pytest.fixture(scope="module")
def vilt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("vilt"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder, "train", 24)
    write_questions(folder, "val", 9, outside=2)
    return folder


@pytest.fixture
def config(vilt_folder: Path, questions: Path, tmp_path: Path) -> Config:
    return partial(write_config, tmp_path, vilt_folder, questions)


def module_of(cli: Any) -> ClassifierModule:
    assert isinstance(cli.model, ClassifierModule)
    return cli.model


def state(module: ClassifierModule) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.slow
def test_a_run_leaves_what_every_run_leaves_and_its_answers(config: Config) -> None:
    path = config()
    fit(path)
    run = run_dir(path)
    assert json.loads((run / "answers.json").read_text())["answers"] == ["yes", "no", "red", "blue", "2", "2 tools"]
    assert json.loads((run / "adapter" / "fingerprint.json").read_text())["answers"][2] == "red"
    logged = scalars(run)
    assert {"train/loss", "val/loss", "val/vqa_accuracy", "val/vqa_accuracy/vocabulary/outside"} <= logged.keys()
    assert logged["val/vqa_accuracy/vocabulary/outside"][-1][1] == 0.0

    assert verb("test", path, "--ckpt_path=last") == 0
    lines = predictions(run)
    assert [line["groups"]["vocabulary"] for line in lines] == ["inside"] * 7 + ["outside"] * 2
    assert all(0.0 < line["confidence"] < 1.0 for line in lines)
    results = json.loads((run / "results.json").read_text())
    assert results["n"] == 9
    assert "ece" in results["metrics"]
    assert "unfinished" not in results


def test_loss_and_logits_are_transformers_own(config: Config, vilt_folder: Path) -> None:
    cli = fit(config(data={"vocabulary": {"file": str(vilt_folder / "config.json")}}), "--trainer.max_steps=1",
              "--model.init_args.learning_rate=1e-30")  # fmt: skip
    module = module_of(cli).eval()
    plain = ViltForQuestionAnswering.from_pretrained(vilt_folder).eval()
    step_batch = cli.datamodule.step_batch(0)
    assert isinstance(step_batch, StepBatch)
    assert step_batch.weight == 8
    for batch in step_batch.micro_batches:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(module.seed)
            theirs = plain(**batch.inputs, labels=batch.targets)
        with torch.no_grad():
            torch.testing.assert_close(module.logits(batch), theirs.logits, rtol=0, atol=1e-6)
            ours = module.loss(batch) / len(batch.ids)
        assert float(ours) == pytest.approx(float(theirs.loss), rel=1e-6)


def test_one_adamw_step_is_that_of_a_plain_loop(config: Config, vilt_folder: Path) -> None:
    # With AdamW's usual eps a gradient near zero moves its weight as far as rounding says.
    choices = {"weight_decay": 0.01, "betas": (0.9, 0.98), "eps": 1e-3}
    adamw = {"class_path": "torch.optim.AdamW", "init_args": {**choices, "betas": [0.9, 0.98]}}
    path = config(
        model={"gradient_clip": None, "learning_rate": 1e-3, "schedule": "constant", "optimizer": adamw},
        data={"vocabulary": {"file": str(vilt_folder / "config.json")}, "micro_batch": 8},
    )  # fmt: skip
    cli = fit(path, "--trainer.max_steps=1")
    plain = ViltForQuestionAnswering.from_pretrained(vilt_folder).train()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, **choices)  # type: ignore[arg-type]
    (batch,) = cli.datamodule.step_batch(0).micro_batches
    torch.manual_seed(derive_seed("dropout", 7, 0, 0, 0))  # patches in the order of the step's own
    plain(**batch.inputs, labels=batch.targets).loss.backward()
    optimizer.step()
    ours = {
        name.replace("modules_to_save.default.", ""): p
        for name, p in module_of(cli).base.named_parameters()
        if p.requires_grad
    }
    theirs = dict(plain.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name], parameter, rtol=0, atol=1e-6)


def losses(path: Path) -> list[float]:
    return [value for _, value in scalars(run_dir(path))["train/loss"]]


def test_micro_batches_of_any_size_give_one_run(config: Config, tmp_path: Path) -> None:
    found = []
    for rows in (1, 2, 8):
        path = config(data={"micro_batch": rows})
        fit(path, f"--run_dir={tmp_path / str(rows)}")
        found.append([value for _, value in scalars(tmp_path / str(rows))["train/loss"]])
    assert len(found[0]) == 3
    for others in found[1:]:
        assert others == pytest.approx(found[0], rel=1e-5)


@pytest.mark.slow
def test_an_evaluation_within_training_moves_nothing(config: Config, tmp_path: Path) -> None:
    """ViLT draws random numbers in evaluation too; dropout would feel it."""
    for name, interval in (("often", "1"), ("seldom", "3")):
        path = config(model={"dropout": 0.1})
        fit(path, f"--run_dir={tmp_path / name}", f"--trainer.val_check_interval={interval}")
    often, seldom = (scalars(tmp_path / name) for name in ("often", "seldom"))
    assert often["train/loss"] == seldom["train/loss"]
    assert often["val/loss"][-1] == seldom["val/loss"][-1]


FROZEN = {"precision": "fp32", "training": "frozen"}
FULL = {"precision": "fp32", "training": "full"}


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    ("parts", "moved"),
    [
        ({"embeddings": FROZEN, "language_model": FROZEN}, ("classifier.",)),
        (
            {"embeddings": FROZEN, "language_model": {**FULL, "last_layers": 2}},
            ("classifier.", "vilt.encoder.layer.2.", "vilt.encoder.layer.3.", "vilt.layernorm.", "vilt.pooler."),
        ),
        ({"language_model": FROZEN}, ("classifier.", "vilt.embeddings.")),
        ({}, ("classifier.", "vilt.")),
    ],
)
def test_what_is_asked_for_moves_and_all_else_is_bit_identical(
    config: Config, vilt_folder: Path, parts: dict[str, Any], moved: tuple[str, ...]
) -> None:
    path = config(model={"parts": parts, "learning_rate": 1e-2},
                  data={"vocabulary": {"file": str(vilt_folder / "config.json")}})  # fmt: skip
    module = module_of(fit(path))
    before = ViltForQuestionAnswering.from_pretrained(vilt_folder).state_dict()
    trained = {n.replace("modules_to_save.default.", "") for n, p in module.base.named_parameters() if p.requires_grad}
    seen = set()
    for name, parameter in module.base.named_parameters():
        if ".original_module." in name:
            continue
        plain = name.replace("modules_to_save.default.", "")
        seen.add(plain)
        assert (plain in trained) == plain.startswith(moved)
        assert torch.equal(parameter, before[plain]) != (plain in trained), plain
    assert seen == {name for name in before if not name.endswith("position_ids")}


def test_lora_on_nf4(config: Config) -> None:
    parts = {"embeddings": FROZEN, "language_model": {"precision": "nf4", "training": "lora"}, "head": FULL}
    module = module_of(fit(config(model={"parts": parts})))
    rows = {row.part: row for row in module.parts_table()}
    assert list(rows) == ["embeddings", "language_model", "head"]
    assert rows["language_model"].modules_4bit == 4 * 6 + 1
    assert rows["embeddings"].trainable == 0
    assert rows["language_model"].trainable > 0


def test_a_head_of_the_checkpoint_is_carried_over_by_text(
    config: Config, vilt_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        cli = fit(config(), "--trainer.max_steps=1", "--model.init_args.learning_rate=1e-30")
    assert "5 rows carried over" in caplog.text
    head = ViltForQuestionAnswering.from_pretrained(vilt_folder).classifier[-1].weight
    own = next(
        p
        for n, p in module_of(cli).named_parameters()
        if p.requires_grad and n.endswith("classifier.modules_to_save.default.3.weight")
    )
    torch.testing.assert_close(own[2], head[2], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_another_vocabulary_is_refused(config: Config, questions: Path) -> None:
    path = config()
    fit(path)
    run = run_dir(path)
    other = questions / "other.json"
    other.write_text(json.dumps(["no", "yes", "red", "blue", "2", "2 tools"]))
    vocabulary = f"--data.init_args.vocabulary={json.dumps({'file': str(other)})}"
    with pytest.raises(ConfigError, match=r"another data\.init_args\.vocabulary\.file"):
        fit(path, "--ckpt_path=last", "--trainer.max_epochs=2", vocabulary)
    with pytest.raises(ConfigError, match=r"chooses from 6 answers.*answers\.json"):
        fit(path, f"--model.init_args.adapter={run / 'adapter'}", f"--run_dir={run}2", vocabulary)


@pytest.mark.slow
def test_a_run_is_tested_with_its_own_answers_without_its_training_data(config: Config, tmp_path: Path) -> None:
    path = config(data={"vocabulary": {"normalize": "none", "least_count": 2}})
    fit(path)
    assert verb("test", path, "--ckpt_path=last") == 0
    moved = tmp_path / "elsewhere"
    write_questions(moved, "val", 9, outside=2)
    from vlm_lit.cli import main

    run = run_dir(path)
    more = [
        "--data.init_args.train=null",
        f"--data.init_args.test.path={moved / 'val.json'}",
        f"--run_dir={tmp_path / 'again'}",
    ]
    assert main(["test", "--from", str(run), *more]) == 0
    first, second = (
        [(line["id"], line["prediction"], line["confidence"]) for line in predictions(folder)]
        for folder in (run, tmp_path / "again")
    )
    assert first == second


@pytest.mark.slow
def test_a_module_is_made_from_its_checkpoint_alone(config: Config) -> None:
    path = config()
    cli = fit(path)
    (kept,) = sorted((run_dir(path) / "checkpoints").glob("step-*.ckpt"))
    again = ClassifierModule.load_from_checkpoint(kept, weights_only=True)
    assert again.answers == module_of(cli).answers
    batch = cli.datamodule.step_batch(0).micro_batches[0]
    with torch.no_grad():
        assert torch.equal(again.eval().logits(batch), module_of(cli).eval().logits(batch))


def test_what_a_classifier_cannot_do_is_refused(config: Config, tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match=r"generates its answers.*SupervisedModule"):
        fit(config(model={"model_id": str(tiny_llava)}))
    with pytest.raises(ConfigError, match="blank or shuffle"):
        fit(config(data={"blind": "drop"}))
    with pytest.raises(ConfigError, match="positions for 40"):
        fit(config(data={"most_words": 64}))
    with pytest.raises(ConfigError, match=r"model\.dropout is 1\.5"):
        fit(config(model={"dropout": 1.5}))


def test_the_data_of_conversations_is_not_for_it(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"data\.class_path to vlm_lit\.ClassifierDataModule"):
        fit(config(), "--data.class_path=vlm_lit.ConversationDataModule")


def test_defaults_are_fully_trained() -> None:
    module = ClassifierModule("none", answers=["yes", "no"])
    assert isinstance(module.parts, PartsSettings)
    assert module.parts.trained_as("full") == ["embeddings", "language_model", "head"]
