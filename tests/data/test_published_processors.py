"""Tests of published checkpoint folders: what transformers does not read of them by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.checkpoint.processors import load_processor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    processor = tiny_models.llava_processor()
    processor.save_pretrained(tmp_path)
    tiny_models.llava_config(processor).save_pretrained(tmp_path)
    return tmp_path


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_llava_without_processor_config_takes_its_patches_from_the_models_config(folder: Path) -> None:
    own = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    settings = {**own["image_processor"], "processor_class": "LlavaProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    made = load_processor(str(folder))
    assert (made.patch_size, made.vision_feature_select_strategy) == (14, "default")
    ids = made(text=["<image>"], images=[[tiny_models.picture(0)]])["input_ids"][0]
    assert list(ids).count(made.image_token_id) == 4


def test_a_template_of_tokenizer_config_alone_is_found(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    changed(folder / "tokenizer_config.json", chat_template=template)
    assert load_processor(str(folder)).chat_template == template


def test_a_pre_tokenizer_that_transformers_drops_is_put_back(tmp_path: Path) -> None:
    model, processor = TINY["idefics3"].build(0)
    processor.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    tokens = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}|\s+|\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokens.save(str(tmp_path / "tokenizer.json"))
    changed(tmp_path / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    text = "how many tools: 2024\n\n red"
    wanted = tokens.encode(text, add_special_tokens=False).ids
    dropped = AutoTokenizer.from_pretrained(tmp_path)
    assert dropped.encode(text, add_special_tokens=False) != wanted
    made = load_processor(str(tmp_path)).tokenizer
    assert made.encode(text, add_special_tokens=False) == wanted
