"""Story of charts: SmolVLM learns to read them, from data in ChartQA's columns to the page of answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from transformers import AutoModelForImageTextToText

from tests.support.steps import CONFIGS, ON_A_CPU, answers, results, story, typed


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Charts drawn by the script, as a user would have it draw them."""
    folder = tmp_path_factory.mktemp("charts") / "charts"
    script = CONFIGS.parent / "scripts" / "charts" / "draw_charts.py"
    subprocess.run([sys.executable, script, "--output", folder, "--images", "12", "--seed", "1"], check=True)
    return folder


def paths(charts: Path) -> list[str]:
    return [f"--data.init_args.{split}.path={charts / f'{split}.parquet'}" for split in ("train", "val", "test")]


@pytest.mark.slow
def test_from_charts_to_the_page(charts: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    more = ["--model.init_args.max_new_tokens=4"]
    runs = story(tmp_path, "smolvlm_chartqa_qlora", folders["smolvlm"], paths(charts), *more, steps=3)
    asked = datasets.load_dataset("parquet", data_files=str(charts / "test.parquet"), split="train")
    for run in runs.values():
        found = results(run)
        assert found["n"] == len(asked)
        assert {"chartqa_relaxed", "chartqa_relaxed/human_or_machine/human"} <= set(found["metrics"])
        assert "chartqa_relaxed/human_or_machine/machine" in found["metrics"]
    assert answers(runs["tuned"]) != answers(runs["base"])
    assert answers(runs["merged"]).keys() == answers(runs["base"]).keys()
    config = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").config
    assert config.model_type == "smolvlm"
    assert getattr(config, "quantization_config", None) is None
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert all(name in page for name in ("base", "tuned", "merged", "data:image/"))
    pairs = json.loads((tmp_path / "comparison" / "comparison.json").read_text())["pairs"]
    assert {(pair["a"], pair["b"]) for pair in pairs} >= {("base", "tuned"), ("base", "merged")}


def test_in_eight_bits(charts: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    config, int8 = CONFIGS / "smolvlm_chartqa_qlora.yaml", CONFIGS / "overlay" / "int8.yaml"
    typed(
        "fit", "--config", config, "--config", int8, *ON_A_CPU, *paths(charts), "--run_dir", tmp_path,
        "--model.init_args.model_id", folders["smolvlm"], "--trainer.max_steps", 1, "--trainer.limit_val_batches", 0,
    )  # fmt: skip
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
