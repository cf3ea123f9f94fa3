"""Tests of `budget` on a tiny run: what it needs, without its weights, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_config
from tests.support.tiny_families.catalogue import save
from vlm_lit.cli import main
from vlm_lit.commands.lightning import prepared

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def bare(tiny_llava: Path, tmp_path: Path) -> Path:
    """A checkpoint folder with its config.json alone: no weights, no processor."""
    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copy(tiny_llava / "config.json", folder)
    return folder


def reckoned(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "budget.json"
    assert main(["budget", *arguments, "--format", "json", "--output", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.slow
def test_a_config_for_a_gpu_is_reckoned_here_from_config_json_alone(bare: Path, tmp_path: Path) -> None:
    # trainer/one_gpu.yaml names a GPU, and data/train.json is nowhere.
    config = ("--config", str(CONFIGS / "llava15_7b_qlora.yaml"), "--model.init_args.model_id", str(bare))
    found = reckoned(tmp_path, *config, "--length", "64")
    assert [recipe["name"] for recipe in found["recipes"]] == ["full", "LoRA", "int8", "QLoRA"]
    assert found["refused"] == []
    assert found["precision"] == "bf16-mixed"
    # 28 x 28 pixels in patches of 14: 4 tokens, of which no label can be one; 64 float features of each, in bfloat16.
    assert found["picture"] == {"tokens": 4, "cached": 4 * 64 * 2, "assumed": None}
    assert found["row"] == {"length": 64, "supervised": 60, "images": 1, "source": "--length"}
    assert found["images_counted"]
    full, lora, int8, qlora = (recipe["memory"]["between_steps"] for recipe in found["recipes"])
    assert full > lora > int8 > qlora
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "budget.json"]  # nothing else is written


def test_the_longest_row_comes_from_the_data_where_they_are(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(data={"val": None})
    found = reckoned(tmp_path, "--config", str(path))
    row = found["row"]
    assert "train.json" in row["source"]
    data = prepared(["--config", str(path)]).datamodule
    step_batch = data.longest_step(1)  # what `micro_batch: auto` tries first
    batch = step_batch.micro_batches[0]
    assert (row["length"], row["supervised"]) == (batch.labels.shape[1], batch.supervised_tokens)


def test_without_data_and_limit_a_length_must_be_said(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_config.write(tmp_path, bare, tmp_path / "nowhere", data={"max_length": None})
    assert main(["budget", "--config", str(path)]) == 2
    assert "Add --length" in capsys.readouterr().err


def test_more_labels_than_tokens_are_refused(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_config.write(tmp_path, bare, tmp_path)
    assert main(["budget", "--config", str(path), "--length", "8", "--supervised", "9"]) == 2
    assert "--supervised is 9, more than the 8 tokens" in capsys.readouterr().err


def test_what_fit_would_refuse_is_a_note_and_the_rest_is_shown(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In 32-true no 16-bit part can meet a float32 one.
    path = small_config.write(tmp_path, bare, tmp_path)
    assert main(["budget", "--config", str(path), "--length", "16"]) == 0
    shown = capsys.readouterr().out
    assert "LoRA: Some parts are stored in bf16" in " ".join(shown.split())
    assert "QLoRA*" in shown


def test_the_text_has_the_breakdown_and_names_its_units(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_config.write(tmp_path, bare, tmp_path)
    assert main(["budget", "--config", str(path), "--length", "16", "--supervised", "4"]) == 0
    shown = capsys.readouterr().out
    for said in ("GiB are 2^30 bytes", "10^9 bytes", "24 GB leave 21.4 GiB", "Largest micro-batch", "adapter/"):
        assert said in " ".join(shown.split()), said
    assert not any(len(line) > 120 for line in shown.splitlines())


def test_no_config_json_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    path = small_config.write(tmp_path, tmp_path / "empty", tmp_path)
    assert main(["budget", "--config", str(path), "--length", "16"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2_5_vl", "mllama", "pixtral"])
def test_pictures_that_vary_are_counted_and_the_one_assumed_is_named(name: str, tmp_path: Path) -> None:
    folder = save(name, tmp_path / name)
    path = small_config.write(tmp_path, folder, tmp_path)
    counted = reckoned(tmp_path, "--config", str(path), "--length", "200", "--supervised", "9")
    assert counted["images_counted"]
    assert ("a picture of any size" if name == "mllama" else "the largest") in counted["picture"]["assumed"]
    assert counted["picture"]["tokens"] > 0
    assert counted["picture"]["cached"] > 0
    none = reckoned(tmp_path, "--config", str(path), "--length", "200", "--supervised", "9", "--images", "0")
    for one, other in zip(
        counted["recipes"], none["recipes"], strict=True
    ):  # the tower is frozen: its peak alone shows
        assert one["micro_batches"][0]["activations"] > other["micro_batches"][0]["activations"]


@pytest.mark.slow
def test_without_a_processor_varied_pictures_are_said_to_be_uncounted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save("idefics3", tmp_path / "whole")
    (tmp_path / "bare").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "bare")
    path = small_config.write(tmp_path, tmp_path / "bare", tmp_path)
    assert main(["budget", "--config", str(path), "--length", "64"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "depends on how it is cut into tiles, and there is no processor to ask" in said
    assert "It is not counted" in said
