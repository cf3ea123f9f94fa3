"""Tests of `budget` for a classifier: what it needs, without its weights and data, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_config
from tests.support.class_runs import checkpoint, write_config, write_questions
from tests.support.tiny_families.vilt import ANSWERS
from vlm_lit.cli import main

RECIPES = ["all", "last 2", "LoRA", "QLoRA", "head"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with its config.json alone: no weights, no processor."""
    whole, folder = checkpoint(tmp_path_factory.mktemp("vilt")), tmp_path_factory.mktemp("bare")
    shutil.copy(whole / "config.json", folder)
    return folder


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """The same with a config that names no answers."""
    whole, folder = checkpoint(tmp_path / "whole", head=False), tmp_path / "nameless"
    folder.mkdir()
    shutil.copy(whole / "config.json", folder)
    return folder


def estimated(tmp_path: Path, path: Path, *more: str) -> dict[str, Any]:
    out = tmp_path / "budget.json"
    assert main(["budget", "--config", str(path), "--format=json", f"--output={out}", *more]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def trainable(found: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        recipe["name"]: {row["part"]: row["trainable"] for row in recipe["parameters"]} for recipe in found["recipes"]
    }


def test_config_json_is_enough_where_it_names_the_answers(bare: Path, tmp_path: Path) -> None:
    found = estimated(tmp_path, write_config(tmp_path, bare, tmp_path / "nowhere"))
    assert found["model_type"] == "vilt"
    assert found["row"] == {
        "words": 40, "height": 64, "width": 96, "patches": 24, "answers": len(ANSWERS),
        "source": "the checkpoint's id2label",
    }  # fmt: skip
    assert [recipe["name"] for recipe in found["recipes"]] == RECIPES
    assert [recipe["configured"] for recipe in found["recipes"]] == [True, False, False, False, False]
    assert found["refused"] == []
    trained = trainable(found)
    assert trained["head"]["embeddings"] == trained["head"]["language_model"] == trained["LoRA"]["embeddings"] == 0
    assert trained["last 2"]["language_model"] < trained["all"]["language_model"]
    between = [recipe["memory"]["between_steps"] for recipe in found["recipes"]]
    assert max(between) == between[0]
    first = found["recipes"][0]["micro_batches"][0]
    assert set(first) == {"rows", "activation_checkpointing", "activations", "peak", "total"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["budget.json", "config.yaml"]  # nothing else is written


@pytest.mark.slow
def test_answers_are_said_read_or_counted(nameless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, nameless, tmp_path / "data")
    assert main(["budget", "--config", str(path)]) == 2
    assert "Add --answers" in capsys.readouterr().err

    said = estimated(tmp_path, path, "--answers=3129")
    assert (said["row"]["answers"], said["row"]["source"]) == (3129, "--answers")
    head = said["recipes"][0]["parameters"][-1]
    assert head["parameters"] == (64 * 128 + 128) + 2 * 128 + (128 * 3129 + 3129)

    file = tmp_path / "answers.json"
    file.write_text(json.dumps(["yes", "no", "red"]))
    read = estimated(tmp_path, path, f'--data.init_args.vocabulary={{"file": "{file}"}}')
    assert (read["row"]["answers"], read["row"]["source"]) == (3, str(file))

    write_questions(tmp_path / "data", "train", 12)
    whole = tmp_path / "whole"  # records are checked with the processor
    counted = estimated(tmp_path, path, f"--model.init_args.model_id={whole}")
    assert (counted["row"]["answers"], counted["row"]["source"]) == (6, "the training data")


def test_the_text_has_the_parts_and_what_each_way_to_train_trains(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["budget", "--config", str(write_config(tmp_path, bare, tmp_path / "nowhere")), "--length=12"]) == 0
    shown = capsys.readouterr().out
    (head,) = [line for line in shown.splitlines() if line.split()[:1] == ["head:"]]
    assert head.split() == ["head:", "9,350,", "trainable", *["9,350"] * 5]
    assert "Questions of 12 tokens" in " ".join(shown.split())
    assert "all*" in shown
    assert "Logits" not in shown
    assert "vision features" not in shown
    assert not any(len(line) > 120 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--supervised=4",), "--supervised would do nothing"),
        (("--images=2",), "--images would do nothing"),
        (("--length=64",), "positions for 40"),
        (("--answers=1",), "whole number from 2 up"),
    ],
)
def test_what_says_nothing_of_a_classifier_is_refused(
    more: tuple[str, ...], said: str, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, bare, tmp_path / "nowhere")
    assert main(["budget", "--config", str(path), *more]) == 2
    assert said in capsys.readouterr().err


def test_answers_say_nothing_of_a_model_that_generates(
    tiny_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_config.write(tmp_path, tiny_llava, tmp_path)
    assert main(["budget", "--config", str(path), "--length=16", "--answers=6"]) == 2
    assert "this model generates its answers" in capsys.readouterr().err


def test_a_checkpoint_that_generates_is_refused(
    tiny_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, tiny_llava, tmp_path / "nowhere")
    assert main(["budget", "--config", str(path), "--answers=6"]) == 2
    assert "generates its answers word by word" in capsys.readouterr().err
