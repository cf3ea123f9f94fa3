"""Tests of processors without torchvision: saved as they were loaded, and videos refused."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers.utils import is_torchvision_available

from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class
from vlm_lit.errors import ConfigError

WITH_VIDEO = ["smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"]
without_torchvision = pytest.mark.skipif(
    is_torchvision_available(), reason="with torchvision the library's own video processors take their place"
)
EXTRA = {"fps": 3, "max_frames": 8, "a_setting_of_tomorrow": [1, {"two": 2}]}


def saved(name: str, folder: Path) -> Path:
    TINY[name].build(0)[1].save_pretrained(folder)
    return folder


def written(folder: Path) -> dict[str, object]:
    """The contents of a processor's files, but for what the library adds of its own."""
    # It notes in the tokenizer's configuration where it was loaded from.
    found: dict[str, object] = {file.name: file.read_bytes() for file in folder.iterdir()} | {
        "tokenizer_config.json": ""
    }
    settings = json.loads((folder / "processor_config.json").read_text())
    if is_torchvision_available():
        settings.pop("video_processor", None)  # its own video processors write their defaults as well
        found["processor_config.json"] = settings
    return found


@pytest.mark.parametrize("name", TINY)
def test_saving_what_was_loaded_writes_the_same_files(name: str, tmp_path: Path) -> None:
    first = saved(name, tmp_path / "first")
    load_processor(str(first)).save_pretrained(tmp_path / "second")
    assert written(tmp_path / "second") == written(first)


@without_torchvision
@pytest.mark.parametrize("name", WITH_VIDEO)
def test_video_settings_survive_whatever_they_are(name: str, tmp_path: Path) -> None:
    first = saved(name, tmp_path / "first")
    path = first / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["video_processor"] |= EXTRA
    path.write_text(json.dumps(settings))
    loaded = load_processor(str(first))
    assert loaded.video_processor.fps == 3
    loaded.save_pretrained(tmp_path / "second")
    again = json.loads((tmp_path / "second" / "processor_config.json").read_text())
    assert again["video_processor"] == settings["video_processor"]


@without_torchvision
@pytest.mark.parametrize("name", WITH_VIDEO)
def test_a_checkpoint_older_than_video_processors_lends_its_picture_settings(name: str, tmp_path: Path) -> None:
    """As `AutoVideoProcessor` reads it: the hub's Qwen2-VL has a preprocessor_config.json and nothing on videos."""
    folder = saved(name, tmp_path)
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    images = {**settings["image_processor"], "processor_class": settings["processor_class"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    assert load_processor(str(folder)).video_processor.to_dict() == images
    (folder / "video_preprocessor_config.json").write_text(json.dumps(EXTRA))
    assert load_processor(str(folder)).video_processor.to_dict() == EXTRA


@without_torchvision
@pytest.mark.parametrize("name", WITH_VIDEO)
def test_a_video_is_refused_in_words(name: str, tmp_path: Path) -> None:
    loaded = load_processor(str(saved(name, tmp_path)))
    frames = np.zeros((4, 3, 28, 28), dtype=np.uint8)
    with pytest.raises(ConfigError, match=r"Videos need torchvision.*pip install"):
        loaded.video_processor([frames])
    with pytest.raises(ConfigError, match="Videos need torchvision"):
        loaded(text=[loaded.video_token], videos=[frames])


def test_a_video_processor_without_a_setting_says_none_to_what_is_one_and_nothing_else() -> None:
    empty = copy.deepcopy(NoVideoProcessor())
    assert empty.num_frames is None
    with pytest.raises(AttributeError):
        _ = empty.no_such_setting


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json"])
def test_a_torn_file_is_named(file: str, tmp_path: Path) -> None:
    (saved("qwen2_vl", tmp_path) / file).write_text('{"processor_class": "Qwen2VL')
    with pytest.raises(ConfigError, match=rf"{file} is not valid JSON .*\. Fetch the checkpoint's files again\."):
        load_processor(str(tmp_path))


def test_a_checkpoint_that_names_no_class_gets_its_model_types(tmp_path: Path) -> None:
    folder = save("qwen2_vl", tmp_path)
    for file in ("processor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / file).read_text())
        settings.pop("processor_class")
        (folder / file).write_text(json.dumps(settings))
    assert type(load_processor(str(folder))) is processor_class("Qwen2VLProcessor")


@pytest.mark.parametrize("name", ["Qwen2VLProcessor", "LlavaProcessor", "PixtralProcessor"])
def test_a_class_is_made_once_and_keeps_the_librarys_name(name: str) -> None:
    assert processor_class(name) is processor_class(name)
    assert processor_class(name).__name__ == name
    assert processor_class(name).__module__.startswith("transformers.models.")


def test_pixtral_leaves_the_librarys_modules_as_they_were() -> None:
    processor_class("PixtralProcessor")
    name = "transformers.models.pixtral.image_processing_pixtral"
    assert name not in sys.modules or sys.modules[name].__name__ == name
