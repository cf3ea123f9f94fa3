"""Tests of the common loggers: figures, pictures and tables, with their files in the run directory."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.runs import run_dir, verb
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.answers_table import AnswersTable

Config = Callable[..., Path]


@pytest.fixture
def path(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config, run in an empty folder in which nothing may be left: loggers like to write where one stands."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    yield config(trainer={"val_check_interval": 1})
    assert list(cwd.iterdir()) == []


def test_csv(path: Path) -> None:
    assert verb("fit", path, "--trainer.logger=CSVLogger") == 0
    folder = run_dir(path) / "lightning_logs" / "version_0"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows if row["val/loss"]] == [0, 1, 2]
    assert len([row for row in rows if row["train/loss"]]) == 3
    steps = ["step-000000", "step-000001", "step-000002"]
    assert sorted(p.stem for p in (folder / "val" / "answers").iterdir()) == steps
    assert sorted(p.stem for p in (folder / "val" / "predictions").iterdir()) == steps
    Image.open(folder / "val" / "predictions" / "step-000002.png").verify()
    with (folder / "val" / "answers" / "step-000002.csv").open() as file:
        answers = list(csv.DictReader(file))
    assert [row["id"] for row in answers] == [f"val{i}" for i in range(6)]
    assert (answers[0]["question"], answers[0]["expected"]) == ("what colour is lamp 0?", "red")


def test_tensorboard_has_the_table_as_well_and_can_be_asked_for_by_name(path: Path) -> None:
    assert verb("fit", path, "--trainer.logger=TensorBoardLogger", "--trainer.logger.name=tb") == 0
    events = EventAccumulator(str(run_dir(path) / "tb" / "version_0"), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    assert {"val/loss", "train/loss", "val/vqa_accuracy"} <= set(events.Tags()["scalars"])
    assert "val/predictions" in events.Tags()["images"]
    shown = events.Tensors("val/answers/text_summary")
    assert [event.step for event in shown] == [0, 1, 2]
    text = shown[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| id | question | expected | answered | score |\n| --- |")
    assert "| val0 | what colour is lamp 0? | red |" in text


@pytest.mark.slow
def test_the_kept_config_logs_into_another_run_when_it_is_run_there(path: Path, tmp_path: Path) -> None:
    assert verb("fit", path, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir={run_dir}/logs") == 0
    assert (run_dir(path) / "logs" / "lightning_logs" / "version_0" / "metrics.csv").is_file()
    assert verb("fit", run_dir(path) / "config.yaml", "--run_dir", str(tmp_path / "other")) == 0
    assert (tmp_path / "other" / "logs" / "lightning_logs" / "version_0" / "metrics.csv").is_file()
    assert len(list((run_dir(path) / "logs" / "lightning_logs").iterdir())) == 1


def test_a_package_that_is_missing_is_one_sentence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("fit", path, "--trainer.logger=CometLogger") == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown == "error: trainer.logger needs the package comet-ml, which is not installed: pip install comet-ml"
    assert not run_dir(path).exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_weights_and_biases_offline(path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    try:
        assert verb("fit", path, "--trainer.logger=WandbLogger", "--trainer.logger.offline=true") == 0
    finally:
        wandb.finish()
    (folder,) = (run_dir(path) / "wandb").glob("offline-run-*")
    media = folder / "files" / "media"
    panels = list((media / "images" / "val").glob("predictions_*.png"))
    assert len(panels) == 3
    Image.open(panels[0]).verify()
    table = json.loads(min((media / "table" / "val").glob("answers_*.table.json")).read_text())
    assert table["columns"] == ["id", "question", "expected", "answered", "score"]
    assert [row[0] for row in table["data"]] == [f"val{i}" for i in range(6)]
    written = (next(folder.glob("*.wandb"))).read_bytes()
    for name in (b"val/loss", b"train/loss", b"trainer/global_step"):
        assert name in written


def mlflow_figures(database: Path) -> dict[str, list[int]]:
    with sqlite3.connect(database) as connection:
        found: dict[str, list[int]] = {}
        for name, step in connection.execute("select key, step from metrics order by step"):
            found.setdefault(name, []).append(step)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own many
@pytest.mark.parametrize("named", [False, True])
def test_mlflow_in_sqlite(named: bool, path: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="pip install mlflow")
    pytest.importorskip("sqlalchemy", reason="pip install mlflow")
    database = tmp_path / "mine" / "mlflow.db" if named else run_dir(path) / "mlflow.db"
    database.parent.mkdir(exist_ok=True, parents=True)
    more = ["--trainer.logger.tracking_uri", f"sqlite:///{database}"] if named else []
    assert verb("fit", path, "--trainer.logger=MLFlowLogger", *more) == 0
    figures = mlflow_figures(database)
    assert figures["val/loss"] == figures["train/loss"] == [0, 1, 2]
    (answers,) = (run_dir(path) / "mlruns").glob("*/artifacts/val/answers")
    table = json.loads((answers / "step-000002.json").read_text())
    assert table["columns"] == ["id", "question", "expected", "answered", "score"]
    assert len(table["data"]) == 6
    Image.open(answers.parent / "predictions" / "step-000002.png").verify()
    if named:
        shared = ["--trainer.logger.experiment_name=all", "--run_dir", str(tmp_path / "second")]
        assert verb("fit", path, "--trainer.logger=MLFlowLogger", *more, *shared) == 0
        assert not (tmp_path / "second" / "mlruns").exists()
        assert len(list((tmp_path / "mine" / "mlruns").glob("*/artifacts/val/answers"))) == 1


def test_a_table_of_no_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="rows is 0"):
        AnswersTable(rows=0)
