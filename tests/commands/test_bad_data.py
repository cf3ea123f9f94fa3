"""Tests of bad data through the command line: one paragraph with file, record and remedy, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import small_data
from tests.support.refusals import edited, refusal, refused, run_dir
from vlm_lit.cli import main

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]


@pytest.fixture
def broken(config: Config, tmp_path: Path) -> Callable[[Callable[[Rows], object]], Path]:
    """Writes a config whose training data, of ten records, has been changed by a function. Returns its path."""

    def write(change: Callable[[Rows], object]) -> Path:
        file = small_data.write_conversations(tmp_path / "data", 10, prefix="bad")
        rows = json.loads(file.read_text())
        change(rows)
        file.write_text(json.dumps(rows))
        return edited(config(), {"data.init_args.train.path": str(file)})

    return write


def as_it_is(_: Rows) -> None:
    """Change nothing: what is broken is a file."""


def cut(path: Path, share: float) -> None:
    """Keep only the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_missing_image(broken: Callable[..., Path], capsys: Capture, tmp_path: Path) -> None:
    error = refused(capsys, broken(lambda rows: rows[3].update(image="images/gone.png")))
    folder = tmp_path / "data"
    assert error.startswith(
        f"error: {folder / 'bad.json'}, record 3 (id 'bad3'): image 1 of 1, {folder / 'images/gone.png'}"
    )
    assert error.endswith("Correct the path or image_root.")


def test_an_image_with_a_broken_header_is_found_before_training(
    broken: Callable[..., Path], capsys: Capture, tmp_path: Path
) -> None:
    path = broken(as_it_is)
    cut(tmp_path / "data/images/bad3.png", 0.01)
    error = refused(capsys, path)
    assert "record 3 (id 'bad3'): image 1 of 1" in error
    assert error.endswith("Convert it to PNG or JPEG.")


def test_an_image_cut_short_is_found_before_training(
    broken: Callable[..., Path], capsys: Capture, tmp_path: Path
) -> None:
    path = broken(as_it_is)
    cut(tmp_path / "data/images/bad3.png", 0.6)
    error = refused(capsys, path)
    assert "record 3 (id 'bad3'): image 1 of 1" in error
    assert "the file is cut short" in error


def test_all_bad_records_are_counted_and_the_first_of_each_kind_is_named(
    broken: Callable[..., Path], capsys: Capture
) -> None:
    def change(rows: Rows) -> None:
        robot(rows)
        for k in (2, 7):
            rows[k]["conversations"][0]["value"] = "<image><image> what?"

    error = refused(capsys, broken(change))
    assert "bad.json: 3 of 10 records cannot be used. " in error
    assert "conversation.image_count (2), the first: record 2 (id 'bad2'): 2 places for images" in error
    assert "(1), the first: record 4 (id 'bad4'): " in error
    assert "unknown role 'robot'" in error
    assert "check --config" in error


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_cut_short_is_found_while_training_where_images_are_not_looked_at(
    workers: int, broken: Callable[..., Path], capsys: Capture, tmp_path: Path
) -> None:
    few = {"data.init_args.num_workers": workers, "data.init_args.effective_batch": 1}
    path = edited(broken(as_it_is), {**few, "data.init_args.check_images": "none"})
    cut(tmp_path / "data/images/bad3.png", 0.6)
    error = refusal(capsys, "fit", "--config", str(path))
    assert "record 3 (id 'bad3'): image 1 of 1" in error
    assert "the file is cut short" in error
    assert error.endswith("Copy it again from its source, or take the record out.")
    whole(run_dir(path))


def whole(folder: Path) -> None:
    """Nothing in a run directory is half a file, and nothing claims to be a result."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    kept = {file.name for file in files if "tfevents" not in file.name}
    assert kept == {"config.yaml", "hparams.yaml", "shortcuts.json", "step-000006.ckpt"}, (
        "the last step before the picture"
    )
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]
    assert yaml.safe_load((folder / "hparams.yaml").read_text())


def robot(rows: Rows) -> None:
    rows[4]["conversations"][0]["from"] = "robot"


def one_place_too_many(rows: Rows) -> None:
    rows[4]["conversations"][0]["value"] = "<image><image> what?"


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (robot, "unknown role 'robot'", "Use one of user, human, assistant, gpt, model,"),
        (one_place_too_many, "2 places for images", "Make the two numbers equal"),
    ],
)
def test_a_bad_record(
    change: Callable[[Rows], None], problem: str, remedy: str, broken: Callable[..., Path], capsys: Capture
) -> None:
    error = refused(capsys, broken(change))
    assert "bad.json, record 4 (id 'bad4'): " in error
    assert problem in error
    assert remedy in error


def test_a_bad_record_of_another_verb(broken: Callable[..., Path], capsys: Capture, tmp_path: Path) -> None:
    path = edited(broken(robot), {"data.init_args.test.path": str(tmp_path / "data/bad.json")})
    assert "record 4 (id 'bad4')" in refusal(capsys, "test", "--config", str(path))
    assert not run_dir(path).exists()


def test_json_cut_short(broken: Callable[..., Path], capsys: Capture, tmp_path: Path) -> None:
    path = broken(as_it_is)
    cut(tmp_path / "data/bad.json", 0.5)
    error = refused(capsys, path)
    assert f"{tmp_path / 'data/bad.json'}, record " in error
    assert error.endswith("The file was cut short: copy or write it again.")


def test_data_that_is_not_there(config: Config, capsys: Capture) -> None:
    error = refused(capsys, edited(config(), {"data.init_args.train.path": "nowhere.json"}))
    assert error.startswith("error: nowhere.json: no such file or folder. Correct the path.")
    assert "There is nothing to fit: set data.init_args.train" in refused(
        capsys, edited(config(), {"data.init_args.train": None})
    )


# The checkpoint -------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tiny_llava: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be broken."""
    return Path(shutil.copytree(tiny_llava, tmp_path / "checkpoint"))


def test_a_checkpoint_that_is_not_there(config: Config, capsys: Capture) -> None:
    error = refused(capsys, config(), "--model.init_args.model_id", "./nowhere")
    assert error.startswith("error: model_id './nowhere' is not a folder here. Write the path of a checkpoint")


@pytest.mark.parametrize("model_type", ["florence2", "of_our_own"])
def test_an_architecture_nobody_has_described(
    model_type: str, checkpoint: Path, config: Config, capsys: Capture
) -> None:
    settings = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**settings, "model_type": model_type}))
    error = refused(capsys, config(model={"model_id": str(checkpoint)}))
    assert error.startswith(f"error: Model type {model_type!r} is not supported; known are ")
    assert "vlm_lit/models/families.py" in error


def test_a_checkpoint_without_a_processor(checkpoint: Path, config: Config, capsys: Capture) -> None:
    for file in checkpoint.glob("*processor*"):
        file.unlink()
    for file in checkpoint.glob("tokenizer*"):
        file.unlink()
    error = refused(capsys, config(model={"model_id": str(checkpoint)}))
    assert error.startswith(f"error: No processor for model_id {str(checkpoint)!r}: ")


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "config.json is not valid JSON"), ("{}", "cannot be loaded, neither as a folder nor")]
)
def test_a_checkpoint_whose_config_says_nothing(
    text: str, problem: str, checkpoint: Path, config: Config, capsys: Capture
) -> None:
    (checkpoint / "config.json").write_text(text)
    assert problem in refused(capsys, config(model={"model_id": str(checkpoint)}))


def test_a_refused_resumption_leaves_the_runs_config_alone(config: Config, capsys: Capture) -> None:
    path = config()
    refusal_of_rank = ("--model.init_args.lora.rank", "4", "--ckpt_path", "last")
    assert main(["fit", "--config", str(path)]) == 0
    before = (run_dir(path) / "config.yaml").read_bytes()
    assert "made with another model.init_args.lora.rank (was 16, is 4)" in refusal(
        capsys, "fit", "--config", str(path), *refusal_of_rank
    )
    assert (run_dir(path) / "config.yaml").read_bytes() == before
