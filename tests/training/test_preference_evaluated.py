"""Tests of what is said and measured of pairs outside of training: counts, `validate`, `test` and `predict`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.support.pairs import preference_config, write_folder, write_pairs
from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.training.pair_figures import FIGURES, IMAGE_FIGURES

Config = Callable[..., Path]
MDPO = [{"name": "sigmoid"}, {"name": "image_sigmoid"}, {"name": "anchor"}]


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """train.json with 20 pairs, two about a picture, val.json with 6 pairs, and the same 6 as test.json."""
    folder = write_folder(tmp_path / "data", "pairs")
    write_pairs(folder, 6, prefix="test")
    return folder


@pytest.fixture
def preferring(tiny_llava: Path, data_set: Path, tmp_path: Path) -> Config:
    return partial(preference_config, tmp_path, tiny_llava, data_set)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("corrupt", [None, "crop"])
def test_test_and_validate_measure_a_file_of_pairs_as_a_validation_in_fit_does(
    corrupt: str | None, preferring: Config, data_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = {"class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"}
    model = {"learning_rate": 3e-3, "losses": None if corrupt is None else MDPO}
    data = {"test": {"path": str(data_set / "val.json")}, "corrupt": corrupt}
    path = preferring(model=model, data=data, trainer={"max_epochs": 2, "callbacks": [keeper]})
    fit(path)
    within = {name: values[-1][1] for name, values in scalars(run_dir(path)).items()}
    capsys.readouterr()
    for command, split, file in (("test", "test", "results.json"), ("validate", "val", "val_results.json")):
        assert verb(command, path, "--ckpt_path", "last") == 0
        found = json.loads((run_dir(path) / file).read_text())
        names = ["loss", *FIGURES, *(IMAGE_FIGURES if corrupt else ())]
        assert found["metrics"] == pytest.approx({name: within[f"val/{name}"] for name in names}, rel=1e-6)
        assert (found["split"], found["n"]) == (split, 6)
        said = capsys.readouterr().out
        assert "rewards/accuracies" in said or "rewards" in said
    assert not (run_dir(path) / "predictions.jsonl").exists()


def test_predict_answers_the_prompts_of_pairs(preferring: Config, data_set: Path, tmp_path: Path) -> None:
    path = preferring(data={"predict": {"path": str(data_set / "test.json")}, "val": None})
    assert verb("predict", path) == 0
    lines = [json.loads(line) for line in (run_dir(path) / "predict_predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"test{i}" for i in range(6)]
    assert lines[0]["question"] == "what colour is the lamp?"
    assert all(isinstance(line["prediction"], str) for line in lines)
    blind = ["--data.init_args.blind=blank", "--run_dir", str(tmp_path / "blind")]
    assert verb("predict", path, *blind) == 0


def test_a_pair_is_one_sample_in_all_that_is_counted(
    preferring: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticks: Iterator[int] = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    path = preferring(model={"losses": MDPO}, data={"corrupt": "blank", "max_length": 60, "over_length": "drop"})
    with caplog.at_level("INFO"):
        fit(path)
    assert "3 optimizer steps of 8 pairs" in caplog.text
    found = scalars(run_dir(path))
    # Two ticks a step: its beginning and its end.
    assert [value for _, value in found["train/samples_per_second"]] == [4.0, 4.0, 2.0]
    assert [value for _, value in found["train/over_length_dropped"]] == [0.0] * 3


def test_over_length_pairs_are_counted_once(preferring: Config, data_set: Path) -> None:
    rows = json.loads((data_set / "train.json").read_text())
    rows[3]["rejected"] = "a word " * 30
    (data_set / "train.json").write_text(json.dumps(rows))
    path = preferring(data={"max_length": 40, "over_length": "drop", "val": None})
    fit(path, "--trainer.max_steps=3")
    once = scalars(run_dir(path))["train/over_length_dropped"]
    assert once[-1][1] == 1.0
    fit(path, "--ckpt_path", "last", "--trainer.max_epochs=2")
    twice = scalars(run_dir(path))["train/over_length_dropped"]
    assert twice[:3] == once
    assert [twice[3][1], twice[-1][1]] == [1.0, 2.0]
