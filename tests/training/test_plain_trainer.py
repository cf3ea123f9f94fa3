"""Tests of Lightning's own Trainer with the module and the data module, as in a script or notebook."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn

import vlm_lit
from tests.support.plain_runs import data_of, module_of, quiet_trainer
from tests.support.runs import fit, run_dir, scalars
from vlm_lit.errors import ConfigError
from vlm_lit.schema import StepBatch
from vlm_lit.training.trainer import check_options

Config = Callable[..., Path]

# A checkpoint names the callbacks it was written with; the run that goes on has fewer.
pytestmark = pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")

_COMPARED = ("train/loss", "train/gradient_norm", "train/learning_rate/language_model", "val/vqa_accuracy", "val/loss")


def _figures(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = scalars(folder)
    return {name: found[name] for name in _COMPARED}


def test_plain_trainer_trains_as_the_command_line_does_and_resumes(config: Config, tmp_path: Path) -> None:
    path = config(trainer={"max_epochs": 3}, model={"lora": {"dropout": 0.1}})
    fit(path)
    every = ModelCheckpoint(every_n_train_steps=4, save_top_k=-1)
    trainer = quiet_trainer(tmp_path / "plain", max_epochs=3, callbacks=[every])
    trainer.fit(module_of(path), data_of(path))
    logged = tmp_path / "plain" / "lightning_logs" / "version_0"
    assert _figures(logged) == _figures(run_dir(path))
    assert len(_figures(logged)["train/loss"]) == 9
    # As callbacks, loggers and file names see it, an epoch is a pass of three steps.
    assert dict(scalars(logged)["epoch"]) == {step: step // 3 for step in range(9)}
    assert trainer.current_epoch == 3
    begun = logged / "checkpoints" / "epoch=1-step=4.ckpt"
    assert begun.is_file()
    assert _adapter(logged) == _adapter(run_dir(path))

    again = quiet_trainer(tmp_path / "again", max_epochs=3)
    again.fit(module_of(path), data_of(path), ckpt_path=begun, weights_only=True)
    resumed = tmp_path / "again" / "lightning_logs" / "version_0"
    assert _figures(resumed)["train/loss"] == _figures(run_dir(path))["train/loss"][4:]
    assert _adapter(resumed) == _adapter(run_dir(path))


def _adapter(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_module_comes_back_from_its_checkpoint_to_answer(config: Config, tmp_path: Path) -> None:
    path = config()
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}
    module = module_of(path, optimizer=optimizer, metrics=["exact_match", {"name": "anls"}])
    quiet_trainer(tmp_path).fit(module, data_of(path), weights_only=True)
    kept = next((tmp_path / "lightning_logs" / "version_0" / "checkpoints").glob("epoch=*.ckpt"))

    back = vlm_lit.SupervisedModule.load_from_checkpoint(kept, weights_only=True)
    for (name, own), (other, theirs) in zip(module.named_parameters(), back.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(own, theirs)
    assert (back.lora, back.parts, back.trained_steps) == (module.lora, module.parts, 3)
    assert back.optimizer([nn.Parameter(torch.zeros(1))]).defaults["momentum"] == 0.9
    reference = quiet_trainer(tmp_path / "a", logger=False).test(module, data_of(path), verbose=False)
    assert quiet_trainer(tmp_path / "b", logger=False).test(back, data_of(path), verbose=False) == reference
    assert {"test/exact_match", "test/anls"} <= set(reference[0])
    assert json.loads((tmp_path / "b" / "results.json").read_text())["global_step"] == 3


def test_optimizer_that_a_checkpoint_cannot_hold_is_asked_for(config: Config, tmp_path: Path) -> None:
    path = config()
    module = module_of(path, optimizer=lambda groups: torch.optim.SGD(groups))
    quiet_trainer(tmp_path).fit(module, data_of(path))
    kept = next((tmp_path / "lightning_logs" / "version_0" / "checkpoints").glob("epoch=*.ckpt"))
    back = vlm_lit.SupervisedModule.load_from_checkpoint(kept, weights_only=True)
    with pytest.raises(ConfigError, match=r"load_from_checkpoint\(path, optimizer=...\)"):
        quiet_trainer(tmp_path).fit(back, data_of(path))


def test_settings_are_taken_as_mappings_and_paths(config: Config, small: Path) -> None:
    path = config()
    module = module_of(path, lora={"rank": 8}, optimizer=partial(torch.optim.AdamW, weight_decay=0.1))
    assert module.lora == vlm_lit.LoraSettings(rank=8)
    assert module.parts.projector == vlm_lit.PartSettings(precision="fp32", training="full")
    data = data_of(path, train=str(small / "train.json"), val=small / "val.json", test={"path": "x", "limit": 3})
    assert data.sources["train"] == vlm_lit.SourceSettings(path=str(small / "train.json"))
    assert data.sources["test"] == vlm_lit.SourceSettings(path="x", limit=3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {"rnak": 8}}, "model.lora.rnak is not an option. Did you mean model.lora.rank"),
        ({"lora": {"rank": "8"}}, "model.lora.rank is '8'; it must be a whole number"),
        ({"lora": {"rank": 0}}, "model.lora: lora.rank is 0"),
        ({"lora": 8}, "it must be a LoraSettings or a mapping of rank"),
        ({"parts": {"projector": {"precision": "nf5"}}}, "model.parts.projector.precision is 'nf5'; it must be one of"),
        ({"optimizer": "torch.optim.Adamw"}, "optimizer.class_path is torch.optim.Adamw, which is no optimizer"),
        ({"optimizer": {"class_path": "os.system"}}, "optimizer.class_path is os.system, which is no optimizer"),
        ({"optimizer": partial(torch.optim.AdamW, lr=0.5)}, "optimizer.init_args.lr is 0.5, which has no effect"),
    ],
)
def test_mapping_that_cannot_be_taken_is_refused(config: Config, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        module_of(config(), **changes)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accumulate_grad_batches": 2}, "effective_batch"),
        ({"gradient_clip_val": 1.0}, "model.init_args.gradient_clip"),
        ({"max_epochs": -1}, "the learning rate's schedule needs a run"),
    ],
)
def test_option_of_the_plain_trainer_that_has_no_effect_is_refused(
    config: Config, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    path = config()
    with pytest.raises(ConfigError, match=words):
        quiet_trainer(tmp_path, logger=False, **options).fit(module_of(path), data_of(path))


def test_strategy_of_the_plain_trainer_is_looked_at(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, logger=False)
    trainer._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(ConfigError, match=r"trainer\.strategy is FSDPStrategy: it shards"):
        check_options(trainer)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_second_fit_of_a_trainer_and_loaders_are_refused(config: Config, tmp_path: Path) -> None:
    path = config()
    module, data = module_of(path), data_of(path)
    trainer = quiet_trainer(tmp_path, logger=False, enable_checkpointing=False, limit_train_batches=1)
    trainer.fit(module, data)
    with pytest.raises(ConfigError, match="already made 1 optimizer steps"):
        trainer.fit(module, data)
    with pytest.raises(ConfigError, match=r"trainer.fit\(module, datamodule="):
        quiet_trainer(tmp_path, logger=False).fit(module, train_dataloaders=[1])


def test_module_without_our_callbacks_is_refused(config: Config, tmp_path: Path) -> None:
    class Bare(vlm_lit.SupervisedModule):
        def configure_callbacks(self) -> list[lightning.Callback]:
            return []

    path = config()
    with pytest.raises(ConfigError, match=r"\*super\(\).configure_callbacks\(\)"):
        quiet_trainer(tmp_path, logger=False).fit(module_of(path, Bare), data_of(path))


def test_tuner_finds_a_learning_rate(config: Config, tmp_path: Path) -> None:
    path = config()
    module, data = module_of(path), data_of(path)
    trainer = quiet_trainer(tmp_path, logger=False, enable_checkpointing=False)
    found = Tuner(trainer).lr_find(module, data, min_lr=1e-5, max_lr=1e-2, num_training=20)
    assert found is not None
    assert len(found.results["loss"]) == 20  # of a run of 3 steps
    assert module.learning_rate == found.suggestion()
    trainer.fit(module, data)
    assert trainer.global_step == 3


class Counting(lightning.LightningModule):
    """A module of a user's own, small, with automatic optimization; it notes what it is trained on."""

    def __init__(self, vocabulary: int = 2000) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary, 1)
        self.seen: list[tuple[int, list[str]]] = []

    def training_step(self, step: StepBatch, batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, step.ids))
        assert all(batch.segments is None for batch in step.micro_batches)
        return torch.stack([self.embedding(batch.inputs["input_ids"]).sum() for batch in step.micro_batches]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
def test_own_module_sees_each_pass_in_its_order_from_wherever_it_resumes(config: Config, tmp_path: Path) -> None:
    path = config()
    every = ModelCheckpoint(tmp_path / "kept", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    whole = Counting()
    quiet_trainer(tmp_path, logger=False, max_epochs=3, callbacks=[every]).fit(whole, data_of(path, val=None))
    assert [epoch for epoch, _ in whole.seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    passes = [[name for _, ids in whole.seen[k : k + 3] for name in ids] for k in (0, 3, 6)]
    assert len({tuple(names) for names in passes}) == 3
    assert all(len(names) == len(set(names)) == 20 for names in passes)
    for step in (1, 3, 5, 6, 8):
        part = Counting()
        trainer = quiet_trainer(tmp_path, logger=False, max_epochs=3, enable_checkpointing=False)
        trainer.fit(part, data_of(path, val=None), ckpt_path=tmp_path / "kept" / f"step={step}.ckpt", weights_only=True)
        assert [ids for _, ids in part.seen] == [ids for _, ids in whole.seen[step:]]
        assert torch.equal(part.embedding.weight, whole.embedding.weight)
    shutil.rmtree(tmp_path / "kept")
