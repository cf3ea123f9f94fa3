"""Story of product descriptions: base, tuned and merged on Qwen2-VL, Llama-3.2-Vision and Pixtral."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.steps import CONFIGS, answers, results, story


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products drawn by the script, in the hub's columns and as chat messages."""
    folder = tmp_path_factory.mktemp("products") / "products"
    script = CONFIGS.parent / "scripts" / "products" / "draw_products.py"
    subprocess.run([sys.executable, script, "--output", folder, "--items", "40", "--seed", "1"], check=True)
    return folder


def of(file: Path) -> list[str]:
    return [f"--data.init_args.{split}.path={file}" for split in ("train", "val", "test")]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_vl", "mllama", "pixtral"])
def test_from_products_to_the_page(family: str, products: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    data = [*of(products / "products.parquet"), "--model.init_args.max_new_tokens=6", "--data.init_args.micro_batch=8"]
    runs = story(tmp_path, "qwen2vl_product_descriptions_qlora", folders[family], data, steps=2)
    for run in runs.values():
        found = results(run)
        assert found["n"] == 2  # the last twentieth of forty
        rouge = next(value for name, value in found["metrics"].items() if name.startswith("rouge_l"))
        assert 0.0 <= rouge <= 1.0
        assert any(name.startswith("answer_length") for name in found["metrics"])
    assert answers(runs["base"]).keys() == answers(runs["tuned"]).keys() == answers(runs["merged"]).keys()
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert all(name in page for name in ("base", "tuned", "merged", "##PRODUCT NAME##"))


def test_from_chat_messages_to_the_page(products: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    data = [*of(products / "messages.jsonl"), "--model.init_args.max_new_tokens=6", "--data.init_args.micro_batch=8"]
    runs = story(tmp_path, "qwen2vl_product_messages_qlora", folders["qwen2_vl"], data, steps=1)
    assert results(runs["merged"])["n"] == 2
    assert (tmp_path / "comparison" / "comparison.html").is_file()


@pytest.mark.parametrize(("overlay", "model_id"), [
    ("llama32_vision", "meta-llama/Llama-3.2-11B-Vision-Instruct"), ("pixtral", "mistral-community/pixtral-12b"),
])  # fmt: skip
def test_another_model_is_one_line(overlay: str, model_id: str) -> None:
    lines = [
        line for line in (CONFIGS / "overlay" / f"{overlay}.yaml").read_text().splitlines() if not line.startswith("#")
    ]
    assert len(lines) == 1
    assert yaml.safe_load(lines[0]) == {"model": {"init_args": {"model_id": model_id}}}
