"""Tests of a classifier's processor: loaded without a chat template, from files as they are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
from transformers.models.vilt.processing_vilt import ViltProcessor

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import save
from vlm_lit.data.checkpoint.image_settings import ImageSettings
from vlm_lit.data.checkpoint.processors import load_processor, processor_identity
from vlm_lit.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("vilt", tmp_path_factory.mktemp("vilt"))


def pixels(processor: ViltProcessor, size: tuple[int, int]) -> torch.Tensor:
    found = processor(text=["yes or no?"], images=[tiny_models.picture(0, size)], return_tensors="pt")["pixel_values"]
    assert isinstance(found, torch.Tensor)
    return found


def test_it_needs_no_chat_template_where_no_turns_are_told_apart(folder: Path) -> None:
    processor = load_processor(str(folder), turns=False)
    assert isinstance(processor, ViltProcessor)
    assert isinstance(processor.image_processor, ViltImageProcessorPil)
    assert isinstance(processor.tokenizer, BertTokenizer)
    assert processor_identity(processor)["image_processor_class"] == "ViltImageProcessorPil"
    with pytest.raises(ConfigError, match="has no chat template, so turns cannot be told apart"):
        load_processor(str(folder))


def published(folder: Path) -> Path:
    """Files as dandelin/vilt-b32-mlm has them: the size is a number, and no file names a processor."""
    (folder / "config.json").write_text(json.dumps({"model_type": "vilt", "architectures": ["ViltForMaskedLM"]}))
    settings = {
        "do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "resample": 3, "size": 384, "size_divisor": 32, "feature_extractor_type": "ViltFeatureExtractor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "or", "no", "?"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def test_published_files_give_the_sizes_of_the_original(tmp_path: Path) -> None:
    processor = load_processor(str(published(tmp_path)), turns=False)
    # The shortest edge is 384, the longest at most 384 x 1333 / 800 = 639, both cut to multiples of 32.
    assert pixels(processor, (640, 480)).shape == (1, 3, 384, 512)
    assert pixels(processor, (300, 1000)).shape == (1, 3, 608, 192 - 192 % 32)
    assert pixels(processor, (50, 50)).shape == (1, 3, 384, 384)
    assert processor.tokenizer("Yes or NO?")["input_ids"] == [2, 5, 6, 7, 8, 3]


def test_its_image_settings_can_be_changed(folder: Path) -> None:
    smaller = ImageSettings(image_processor={"size": {"shortest_edge": 32}})
    processor = load_processor(str(folder), turns=False, image_settings=smaller)
    assert pixels(processor, (40, 32)).shape == (1, 3, 32, 32)
    assert processor_identity(processor)["image_settings"] == {"image_processor": {"size": {"shortest_edge": 32}}}
    with pytest.raises(ConfigError, match="min_tiles is not a setting of ViltImageProcessor"):
        load_processor(str(folder), turns=False, image_settings=ImageSettings(image_processor={"min_tiles": 2}))
