"""Tests of settings that mean nothing: each is refused by its name, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.plain_runs import data_of, module_of
from tests.support.refusals import refused
from vlm_lit.errors import ConfigError

Config = Callable[..., Path]

SETTINGS = {
    "model.init_args.lora.alpha=.nan": "model.init_args.lora.alpha is nan",
    "model.init_args.lora.alpha=0": "lora.alpha is 0",
    "model.init_args.lora.alpha=-1": "lora.alpha is -1",
    "model.init_args.lora.alpha=.inf": "lora.alpha is inf",
    "model.init_args.gradient_clip=.nan": "gradient_clip is nan",
    "data.init_args.num_workers=-1": "data.num_workers is -1",
    "data.init_args.bad_records_most=.nan": "bad_records_most is nan",
    "data.init_args.feature_cache_gb=-1": "feature_cache_gb is -1",
    "trainer.max_epochs=0": "trainer.max_epochs is 0",
    "trainer.max_steps=0": "trainer.max_steps is 0: nothing would be trained",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches is 0: nothing would be trained",
    "trainer.limit_train_batches=0.0": "trainer.limit_train_batches is 0.0: nothing would be trained",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch is 0",
    "trainer.log_every_n_steps=-3": "trainer.log_every_n_steps is -3",
    "seed_everything=-1": "seed_everything is -1; a seed is a whole number from 0 to 4294967295",
    "seed_everything=4294967296": "seed_everything is 4294967296",
    "seed_everything=99999999999999999999": "seed_everything is 99999999999999999999",
}


@pytest.mark.parametrize(("setting", "said"), SETTINGS.items(), ids=SETTINGS.keys())
def test_a_setting_that_means_nothing_is_refused_by_its_name(
    setting: str, said: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, config(), f"--{setting}")


@pytest.mark.parametrize(("name", "value"), [("betas", [0.9, 1.5]), ("weight_decay", -1.0)])
def test_an_optimizers_options_too(
    name: str, value: object, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(model={"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {name: value}}})
    assert "model.optimizer cannot be made: Invalid" in refused(capsys, path)


def test_in_python_as_well(config: Config) -> None:
    path = config()
    of_model: list[dict[str, Any]] = [
        {"seed": -1}, {"lora": {"alpha": float("nan")}}, {"optimizer": "torch.optim.Nothing"},
    ]  # fmt: skip
    for change in of_model:
        with pytest.raises(ConfigError):
            module_of(path, **change)
    of_data: list[dict[str, Any]] = [{"seed": 2**32}, {"num_workers": -1}, {"feature_cache_gb": float("nan")}]
    for change in of_data:
        with pytest.raises(ConfigError):
            data_of(path, **change)
