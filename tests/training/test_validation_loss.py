"""Tests of `val/loss`: the training loss over the validation split, whatever the batches."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.errors import raised
from vlm_lit.schema import IGNORE_INDEX
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]


def results(config: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_dir(config) / "val_results.json").read_text())
    return found


def loss_of(config: Path, *more: str) -> float:
    assert verb("validate", config, *more) == 0
    found = results(config)["metrics"]
    assert isinstance(found, dict)
    return float(found["loss"])


def by_hand(config: Path) -> float:
    """Every conversation of the validation split in a row of its own, through the model's own forward pass."""
    module = fit(config, "--trainer.max_steps=1", "--model.init_args.learning_rate=1e-30").model
    assert isinstance(module, SupervisedModule)
    dataset, collate = module.data.datasets["val"], module.data.collator()
    assert isinstance(dataset, ConversationDataset)
    assert isinstance(collate, StepCollator)
    collate.shared = None
    module.eval()
    total, tokens = 0.0, 0
    for i in range(len(dataset)):
        (batch,) = raised(collate([dataset[i]])).micro_batches
        with torch.no_grad():
            logits = module.base(**batch.inputs, use_cache=False).logits[:, :-1].float()
        labels = batch.labels[:, 1:]
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
        tokens += int((labels != IGNORE_INDEX).sum())
    return total / tokens


def several(small: Path) -> dict[str, object]:
    """A validation of two-turn conversations: answers of different lengths, some of which share an image's row."""
    return {"val": {"path": str(small / "train.json"), "limit": 7}}


@pytest.fixture
def path(config: Config, small: Path) -> Path:
    return config(data=several(small))


@pytest.mark.slow
def test_it_is_the_mean_over_the_splits_supervised_tokens(path: Path) -> None:
    # float32 sums of other shapes: 1e-5 is some 80 rounding steps.
    expected = by_hand(path)
    assert loss_of(path) == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)


@pytest.mark.slow
def test_neither_batches_nor_packing_nor_judged_turns_show_in_it(path: Path) -> None:
    whole = loss_of(path)
    for more in (
        ("--data.init_args.eval_batch=1",),
        ("--data.init_args.eval_batch=5", "--data.init_args.micro_batch=1"),
        ("--data.init_args.packing=false",),
        ("--data.init_args.judged_turns=last",),
    ):
        assert loss_of(path, *more) == pytest.approx(whole, rel=1e-5), more


def test_a_mean_of_batch_means_would_differ(path: Path) -> None:
    # Negative control: answers are of different lengths.
    from vlm_lit.training import validation_loss

    means: list[float] = []
    add = validation_loss.ValidationLoss.add

    def kept(self: validation_loss.ValidationLoss, step_batch: object) -> None:
        before = (math.fsum(self.sums), self.tokens)
        add(self, step_batch)  # type: ignore[arg-type]
        means.append((math.fsum(self.sums) - before[0]) / (self.tokens - before[1]))

    validation_loss.ValidationLoss.add = kept  # type: ignore[method-assign]
    try:
        whole = loss_of(path, "--data.init_args.eval_batch=2")
    finally:
        validation_loss.ValidationLoss.add = add  # type: ignore[method-assign]
    assert len(means) == 7  # two answers a conversation, each pair in a step batch
    assert abs(sum(means) / len(means) - whole) > 1e-4 * whole


@pytest.mark.slow
def test_features_from_the_cache_give_the_same(path: Path, tmp_path: Path) -> None:
    live = loss_of(path)
    assert loss_of(path, f"--data.init_args.feature_cache={tmp_path / 'features'}") == pytest.approx(live, rel=1e-5)


@pytest.mark.slow
def test_training_does_not_notice_it(config: Config, small: Path) -> None:
    path = config(
        data={**several(small), "num_workers": 1},
        model={"lora": {"dropout": 0.1}},
        trainer={"max_epochs": 2, "val_check_interval": 1},
    )
    losses = {}
    for by in ("both", "answers", "loss"):
        assert verb("fit", path, f"--data.init_args.validate_by={by}", "--run_dir", f"{run_dir(path)}-{by}") == 0
        losses[by] = scalars(Path(f"{run_dir(path)}-{by}"))
    assert losses["both"]["train/loss"] == losses["answers"]["train/loss"] == losses["loss"]["train/loss"]
    assert losses["both"]["val/loss"] == losses["loss"]["val/loss"]
    assert len(losses["both"]["val/loss"]) == len(losses["both"]["train/loss"]) == 6
    assert losses["both"]["val/vqa_accuracy"] == losses["answers"]["val/vqa_accuracy"]
    assert "val/loss" not in losses["answers"]
    assert "val/vqa_accuracy" not in losses["loss"]


def test_a_validation_by_its_loss_alone_answers_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loss_of(path)
    assert (run_dir(path) / "val_predictions.jsonl").exists()
    asked: list[object] = []
    monkeypatch.setattr(SupervisedModule, "replies", lambda *_: asked.append(1))
    assert loss_of(path, "--data.init_args.validate_by=loss") == whole
    assert asked == []
    assert results(path)["metrics"] == {"loss": whole}
    assert results(path)["n"] == 7
    assert not (run_dir(path) / "val_predictions.jsonl").exists()  # an earlier validation's


def test_records_without_an_answer_are_left_out_and_counted(config: Config, small: Path) -> None:
    rows = json.loads((small / "val.json").read_text())
    rows[1]["conversations"].pop()
    rows[4]["conversations"][-1]["value"] = " "
    (small / "unanswered.json").write_text(json.dumps(rows))
    kept = [rows[i] for i in (0, 2, 3, 5)]
    (small / "answered.json").write_text(json.dumps(kept))
    path = config()
    alone = loss_of(path, f"--data.init_args.val.path={small / 'answered.json'}")
    assert loss_of(path, f"--data.init_args.val.path={small / 'unanswered.json'}") == pytest.approx(alone, rel=1e-5)
    found = results(path)["metrics"]
    assert isinstance(found, dict)
    assert found["loss/left_out"] == 2.0
    assert results(path)["n"] == 6  # all were asked


def test_what_the_loss_is_not_of_is_said_once_and_not_of_the_sanity_check(
    config: Config, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = json.loads((small / "val.json").read_text())
    for row in rows[1:]:
        row["conversations"].pop()
    (small / "unanswered.json").write_text(json.dumps(rows))
    checks = ["--trainer.num_sanity_val_steps=1", "--trainer.max_steps=2", "--trainer.val_check_interval=1"]
    with caplog.at_level("INFO"):
        fit(
            config(), f"--data.init_args.val.path={small / 'unanswered.json'}", "--data.init_args.eval_batch=2", *checks
        )
    said = [record.getMessage() for record in caplog.records if "val/loss is of" in record.getMessage()]
    assert said == [
        f"val/loss is of 1 records: {len(rows) - 1} have no answer to compare with, 0 are longer than max_length."
    ]


def test_a_conversation_that_is_too_long_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("validate", path, "--data.init_args.max_length=20", "--data.init_args.validate_by=loss") == 2
    assert re.search(r"train\.json: \d of \d records cannot be used. .*record 0 ", capsys.readouterr().err)
    assert verb("validate", path, "--data.init_args.max_length=20", "--data.init_args.validate_by=answer") == 2
    assert "Did you mean answers?" in capsys.readouterr().err
