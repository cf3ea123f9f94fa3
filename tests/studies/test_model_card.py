"""Tests of the model card: its code runs with and without a chat template, and it is whole with few files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from transformers import AutoProcessor

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import save
from vlm_lit.data.checkpoint.processors import load_processor, processor_identity
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.reporting.model_card import RunFiles, model_card, read_run

BASE = {"model_id": "/home/me/secret/base", "weights_sha256": {"model.safetensors": "ab" * 32}}


def card(run: RunFiles, name: str = "tuned", *, chat_template: bool = True) -> str:
    return model_card(run, name=name, dtype="bf16", merged=["Close."], chat_template=chat_template)


# Those whose processors transformers loads without torchvision.
@pytest.mark.parametrize("name", ["llava", "llava_next", "idefics3", "mllama", "paligemma", "gemma3"])
def test_the_code_answers_a_question(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(name, tmp_path / "tuned")
    tiny_models.picture(1).save(tmp_path / "picture.png")
    page = card(RunFiles(fingerprint={"base": BASE}), chat_template=name != "paligemma")
    use = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    exec(use.replace("max_new_tokens=64", "max_new_tokens=4"), {})
    assert capsys.readouterr().out.endswith("\n")


def test_the_page_says_how_to_get_the_pixels_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("llava", tmp_path / "tuned")
    processor = processor_identity(load_processor(str(tmp_path / "tuned")))
    page = card(RunFiles(fingerprint={"base": BASE, "processor": processor}))
    assert "images were prepared by `CLIPImageProcessorPil` (pillow " in page
    loaded = AutoProcessor.from_pretrained(tmp_path / "tuned")  # torchvision's, where that is installed
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1], {"processor": loaded})
    assert processor_identity(loaded) == processor
    assert "images were prepared by" not in card(RunFiles(fingerprint={"base": BASE}))


def test_an_adapter_alone_gets_a_whole_page_without_paths() -> None:
    page = card(RunFiles(fingerprint={"base": BASE}))
    assert yaml.safe_load(page.split("---\n")[1])["tags"] == ["vlm_lit"]
    assert f"`base` (SHA-256 of `model.safetensors`: `{'ab' * 32}`)" in page
    assert "secret" not in page
    assert "## Results" not in page
    assert "## Data" not in page


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/secret/train.json", "train.json"),
        ("../secret/train.jsonl", "train.jsonl"),
        ("secret/train.parquet", "train.parquet"),
        ("data/secret/saved", "saved"),
        ("~/secret/saved", "saved"),
        ("C:\\secret\\train.json", "train.json"),
    ],
)
def test_local_data_is_called_by_its_name_alone(path: str, shown: str) -> None:
    config = {"data": {"init_args": {"train": {"path": path, "split": "train"}, "prompt": "{question} Briefly."}}}
    page = card(RunFiles(fingerprint={"base": BASE}, config=config))
    assert f"| train | `{shown}` | - | - | - | all |" in page
    assert "secret" not in page
    assert "Prompt: `{question} Briefly.`" in page
    assert "datasets" not in yaml.safe_load(page.split("---\n")[1])


def test_a_folder_that_reads_like_a_hub_id_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "saved").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = {"data": {"init_args": {"train": {"path": "data/saved", "split": "train"}}}}
    page = card(RunFiles(fingerprint={"base": BASE}, config=config))
    assert "| train | `saved` | - | - | - | all |" in page
    assert "datasets" not in yaml.safe_load(page.split("---\n")[1])


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({}, "on attention, mlp."),
        ({"last_share": 1.0}, "on attention, mlp."),
        ({"last_share": 0.25}, "on attention, mlp in the last 0.25 of the decoder layers."),
    ],
)
def test_the_layers_with_lora_are_named(layers: dict[str, float], words: str) -> None:
    part = {"precision": "nf4", "training": "lora", "learning_rate": 1e-3}
    lora = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": ["attention", "mlp"], "leaves": None, **layers}
    page = card(RunFiles(fingerprint={"base": BASE, "parts": {"language_model": part}, "lora": lora}))
    assert f"LoRA: rank 8, alpha 16, dropout 0, {words}\n" in page


def test_cells_do_not_break_the_table() -> None:
    config = {"data": {"init_args": {"train": {"path": "org/a|b", "split": "train"}}}}
    assert "| `org/a\\|b` |" in card(RunFiles(fingerprint={"base": BASE}, config=config))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    assert read_run(tmp_path / "adapter", {"base": BASE}).results == {}
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(VlmLitError, match=r"results\.json: the text ends too early .* merge from a copy of adapter/"):
        read_run(tmp_path / "adapter", {"base": BASE})
    (tmp_path / "results.json").unlink()
    (tmp_path / "config.yaml").write_text("seed_everything: 1\nseed_everything: 2\n")
    with pytest.raises(VlmLitError, match=r"config\.yaml, line 2: the key seed_everything stands there a second time"):
        read_run(tmp_path / "adapter", {"base": BASE})
