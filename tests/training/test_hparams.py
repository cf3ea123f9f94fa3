"""Tests of TensorBoard's page: it opens on curves, and its hyperparameters are what the run chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from tests.support.event_files import write_events
from tests.support.runs import fit, run_dir, verb
from vlm_lit.curve_tags import logged_as, picture_tag, scalar_tag
from vlm_lit.training.callbacks.chosen_settings import COLUMNS, chosen_settings
from vlm_lit.training.callbacks.hparams_file import NAME, write_hparams

Config = Callable[..., Path]


def opened(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def row(folder: Path) -> dict[str, object]:
    """The hyperparameters that TensorBoard shows of a run."""
    content = opened(folder).SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    values = parse_session_start_info_plugin_data(content).hparams.items()
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values}


@pytest.mark.slow
def test_the_page_begins_with_loss_learning_rates_and_validation(config: Config) -> None:
    path = config()
    fit(path, "--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1")
    assert verb("test", path, "--ckpt_path", "last") == 0
    tags = opened(run_dir(path)).Tags()
    names = sorted([*tags["scalars"], *tags["images"]])
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    assert groups == ["train", "val", "val_images", "val_per_group", "watch", "zz_test"]
    assert [name for name in names if name.startswith("train/")] == [
        "train/learning_rate/language_model", "train/learning_rate/projector", "train/loss",
    ]  # fmt: skip
    assert {"val/vqa_accuracy", "val/exact_match"} <= set(names)
    curves = [name for name in names if name.startswith(("train/", "val/"))]
    assert all(len(opened(run_dir(path)).Scalars(name)) == 3 for name in curves)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("train/loss", "train/loss"),
        ("train/my_own", "train/my_own"),
        ("train/gradient_norm", "watch/gradient_norm"),
        ("val/loss", "val/loss"),
        ("val/anls[whitespace=a/b]", "val/anls[whitespace=a/b]"),
        ("val/anls[whitespace=a/b]/number", "val_per_group/anls[whitespace=a/b]/number"),
        ("test/vqa_accuracy/yes/no", "zz_test/vqa_accuracy/yes/no"),
        ("loss", "loss"),
    ],
)
def test_a_tag_leads_back_to_its_name(name: str, tag: str) -> None:
    assert scalar_tag(name) == tag
    assert logged_as(tag) == name
    assert logged_as(name) == name  # of an older file
    assert logged_as(picture_tag("val/confusion/number")) == "val/confusion/number"


@pytest.mark.slow
def test_by_default_the_table_has_a_column_for_either_metric_that_may_lead(config: Config) -> None:
    path = config(model={"metrics": None})
    fit(path)
    experiment = parse_experiment_plugin_data(opened(run_dir(path)).SummaryMetadata(EXPERIMENT_TAG).plugin_data.content)
    normalised = "vqa_accuracy[normalize=always]"
    assert [info.name.tag for info in experiment.metric_infos] == [
        "train/loss", "val/loss", f"val/{normalised}", "val/vqa_accuracy", "val/exact_match", f"zz_test/{normalised}",
        "zz_test/vqa_accuracy",
    ]  # fmt: skip
    assert f"val/{normalised}" in opened(run_dir(path)).Tags()["scalars"]


@pytest.mark.slow
def test_the_table_holds_what_was_chosen_and_the_leading_metrics(config: Config) -> None:
    path = config(model={"lora": {"rank": 8, "dropout": 0.0, "targets": ["attention", "mlp"]}})
    fit(path)
    experiment = parse_experiment_plugin_data(opened(run_dir(path)).SummaryMetadata(EXPERIMENT_TAG).plugin_data.content)
    columns = [info.name for info in experiment.hparam_infos]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert columns == list(COLUMNS)
    assert metrics == ["train/loss", "val/loss", "val/vqa_accuracy", "val/exact_match", "zz_test/vqa_accuracy"]
    assert len(columns) + len(metrics) <= 28
    shown = row(run_dir(path))
    assert (shown["rank"], shown["targets"], shown["epochs"]) == (8, "attention, mlp", 1)
    assert {name for name in shown if name.startswith("learning_rate/")} == {
        "learning_rate/projector", "learning_rate/language_model",
    }  # fmt: skip
    assert shown["trained"] == "projector fp32 full, language_model nf4 lora"
    assert "rank" in opened(run_dir(path)).Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_a_run_that_goes_on_with_other_settings_has_one_row_and_the_new_one(tmp_path: Path) -> None:
    write_hparams(tmp_path, ("epochs",), {"epochs": 1}, ["train/loss"])
    write_events(tmp_path, {"train/loss": [(0, 0, 3.0), (1, 1, 2.0)]})
    assert row(tmp_path) == {"epochs": 1}
    write_hparams(tmp_path, ("epochs",), {"epochs": 3}, ["train/loss"])
    write_events(tmp_path, {"train/loss": [(2, 2, 1.0)]}, suffix=".resumed")
    assert row(tmp_path) == {"epochs": 3}
    assert [path.name for path in tmp_path.iterdir() if "hparams" in path.name] == [NAME]
    assert [point.value for point in opened(tmp_path).Scalars("train/loss")] == [3.0, 2.0, 1.0]


@pytest.mark.slow
def test_an_earlier_runs_hparams_file_does_not_stay(config: Config) -> None:
    path = config()
    run_dir(path).mkdir()
    (run_dir(path) / "hparams.yaml").write_text("model.lora.rank: 4\n")
    fit(path)
    assert yaml.safe_load((run_dir(path) / "hparams.yaml").read_text())["model.lora.rank"] == 16
    assert row(run_dir(path))["rank"] == 16


def test_a_config_of_ones_own_class_has_what_it_has() -> None:
    assert chosen_settings({"seed_everything": 7, "model": {"class_path": "my.Module"}}) == {"seed": 7}
    assert chosen_settings({"trainer": {"max_steps": -1, "max_epochs": None}}) == {}
    assert chosen_settings({"trainer": {"max_steps": 5}}) == {"max_steps": 5}
