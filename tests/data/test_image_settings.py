"""Tests of image settings: each reaches its family's pixels or is refused, and padding is LLaVA's own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ProcessorMixin

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.checkpoint.image_settings import ImageSettings
from vlm_lit.data.checkpoint.image_tokens import processed_tokens
from vlm_lit.data.checkpoint.processors import load_processor, processor_identity, settings_of
from vlm_lit.data.checkpoint.settings_files import write_image_settings
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError

SIZE = (130, 60)

REACHING: dict[str, dict[str, Any]] = {
    "llava": {"resample": 0},
    "pixtral": {"size": {"longest_edge": 16}},
    "llava_next": {"image_grid_pinpoints": [[56, 28]]},
    "smolvlm": {"size": {"longest_edge": 84}},
    "idefics3": {"do_image_splitting": False},
    "qwen2_vl": {"max_pixels": 512, "min_pixels": 128},
    "qwen2_5_vl": {"size": {"longest_edge": 512}},
    "qwen3_vl": {"max_pixels": 512},
    "mllama": {"max_image_tiles": 2},
    "paligemma": {"image_mean": [0.1, 0.2, 0.3]},
    "gemma3": {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 20},
    "internvl": {"crop_to_patches": False},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in TINY}
    for name, folder in made.items():
        TINY[name].build(0)[1].save_pretrained(folder)
    return made


def loaded(folder: Path, *, pad_to_square: bool = False, **settings: Any) -> ProcessorMixin:
    return ConversationDataModule(str(folder), image_processor=settings, pad_to_square=pad_to_square).processor


def pixels(processor: ProcessorMixin, picture: Image.Image) -> dict[str, torch.Tensor]:
    output = processor(text=[str(processor.image_token)], images=[[picture]], return_tensors="pt")
    return {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def said(folder: Path, **settings: Any) -> str:
    with pytest.raises(ConfigError) as found:
        loaded(folder, **settings)
    return str(found.value)


def test_every_family_has_a_setting_here() -> None:
    assert REACHING.keys() == TINY.keys()


@pytest.mark.parametrize("name", REACHING)
def test_a_setting_reaches_the_pixels_and_the_identity(name: str, folders: dict[str, Path]) -> None:
    plain, changed = loaded(folders[name]), loaded(folders[name], **REACHING[name])
    picture = tiny_models.picture(1, SIZE)
    assert not alike(pixels(plain, picture), pixels(changed, picture))
    assert alike(pixels(changed, picture), pixels(pickle.loads(pickle.dumps(changed)), picture))
    before, after = processor_identity(plain), processor_identity(changed)
    assert "image_settings" not in before
    assert after["image_settings"] == {"image_processor": REACHING[name]}
    assert after == json.loads(json.dumps(after))
    # From the fingerprint to the same processor.
    again = load_processor(str(folders[name]), image_settings=settings_of(after))
    assert processor_identity(again) == after
    assert alike(pixels(again, picture), pixels(changed, picture))


@pytest.mark.parametrize("name", TINY)
def test_without_settings_a_processor_is_as_its_files_say(name: str, folders: dict[str, Path]) -> None:
    assert processor_identity(loaded(folders[name], size=None)) == processor_identity(
        load_processor(str(folders[name]))
    )


def test_qwens_max_pixels_are_its_longest_edge(folders: dict[str, Path]) -> None:
    processor = loaded(folders["qwen2_vl"], max_pixels=512)
    assert dict(processor.image_processor.size) == {"shortest_edge": 64, "longest_edge": 512}
    assert processed_tokens(processor, (400, 400)) <= 512 // 64


def test_a_part_of_size_keeps_the_rest_and_another_form_replaces_it(folders: dict[str, Path]) -> None:
    assert dict(loaded(folders["qwen2_vl"], size={"longest_edge": 512}).image_processor.size)["shortest_edge"] == 64
    assert dict(loaded(folders["llava"], size={"shortest_edge": 40}).image_processor.size) == {"shortest_edge": 40}


def test_an_unknown_name_is_refused_with_the_nearest_and_the_list(folders: dict[str, Path]) -> None:
    error = said(folders["qwen2_vl"], max_pixel=512)
    assert "data.init_args.image_processor.max_pixel is not a setting of Qwen2VLImageProcessor" in error
    assert "Did you mean max_pixels?" in error
    assert "There are: " in error
    assert "merge_size" in error
    assert "max_pixels" not in said(folders["idefics3"], max_pixels=512).partition("There are")[2]


IGNORED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma3", {"pan_and_scan_max_num_crops": 2}, "pan_and_scan_max_num_crops: 2 would be ignored"),
    ("pixtral", {"patch_size": {"height": 4, "width": 4}}, "patch_size: .* would be ignored"),
    ("llava_next", {"do_pad": False}, "do_pad: False would be ignored"),
    ("qwen2_vl", {"size": {"longest_edge": 512}, "max_pixels": 640}, "size: .* would be ignored"),
    ("llava", {"do_center_crop": False}, "do_center_crop: False would be ignored"),
]


@pytest.mark.parametrize(("name", "settings", "words"), IGNORED)
def test_what_would_change_nothing_is_refused(
    name: str, settings: dict[str, Any], words: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match=words):
        loaded(folders[name], **settings)


SO_ALREADY: list[tuple[str, dict[str, Any]]] = [
    ("qwen2_vl", {"max_pixels": 1600}),
    ("internvl", {"crop_to_patches": True, "max_patches": 4}),
]


@pytest.mark.parametrize(("name", "settings"), SO_ALREADY)
def test_what_is_so_already_is_no_setting(name: str, settings: dict[str, Any], folders: dict[str, Path]) -> None:
    assert "image_settings" not in processor_identity(loaded(folders[name], **settings))


def test_what_it_cannot_work_with_is_refused_in_its_words(folders: dict[str, Path]) -> None:
    assert "cannot work with these settings" in said(folders["qwen2_vl"], size={"height": 28, "width": 28})
    assert "`crop_size` must be specified" in said(folders["qwen2_vl"], do_center_crop=True)


def test_settings_are_a_mapping(folders: dict[str, Path]) -> None:
    given: Any = [512]
    with pytest.raises(ConfigError, match=r"image_processor is \[512\]; it must be a mapping"):
        ConversationDataModule(str(folders["llava"]), image_processor=given)


def expanded_to_square(picture: Image.Image, mean: tuple[float, ...]) -> Image.Image:
    """`expand2square` of LLaVA, llava/mm_utils.py at c121f04, called with tuple(int(x*255) for x in image_mean)."""
    colour, (width, height) = tuple(int(x * 255) for x in mean), picture.size
    if width == height:
        return picture
    side = max(width, height)
    result = Image.new(picture.mode, (side, side), colour)
    result.paste(picture, (0, (width - height) // 2) if width > height else ((height - width) // 2, 0))
    return result


@pytest.mark.parametrize("size", [SIZE, (31, 90), (50, 50), (41, 40)])
@pytest.mark.parametrize("name", ["llava", "paligemma"])
def test_padding_to_a_square_is_llavas(name: str, size: tuple[int, int], folders: dict[str, Path]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    plain, padding = loaded(folders[name]), loaded(folders[name], pad_to_square=True)
    expected = pixels(plain, expanded_to_square(picture, plain.image_processor.image_mean))
    assert alike(pixels(padding, picture), expected)
    assert alike(pixels(padding, picture), pixels(plain, picture)) == (size[0] == size[1])


def test_padding_is_part_of_the_identity(folders: dict[str, Path]) -> None:
    identity = processor_identity(loaded(folders["llava"], pad_to_square=True))
    assert identity["image_settings"] == {"pad_to_square": True}
    assert identity["image_processor_class"] == "LlavaImageProcessorPil"
    assert processor_identity(load_processor(str(folders["llava"]), image_settings=settings_of(identity))) == identity


def test_padding_is_refused_where_shapes_are_kept_or_padding_is_said_twice(folders: dict[str, Path]) -> None:
    for name in ("qwen2_vl", "llava_next", "idefics3"):
        assert "data.init_args.pad_to_square is for checkpoints that resize" in said(folders[name], pad_to_square=True)
    assert "both say how pictures are padded" in said(folders["llava"], pad_to_square=True, do_pad=False)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm", "llava_next"])
@pytest.mark.parametrize("nested", [True, False])
def test_settings_are_written_into_a_checkpoints_files(
    name: str, nested: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    processor = load_processor(str(folders[name]), image_settings=ImageSettings(image_processor=REACHING[name]))
    TINY[name].build(0)[1].save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    if not nested:  # as older checkpoints have it, with Qwen's older names
        settings = json.loads(path.read_text())
        images = {**settings.pop("image_processor"), "processor_class": type(processor).__name__}
        (tmp_path / "preprocessor_config.json").write_text(
            json.dumps({**images, "max_pixels": 1600} if name == "qwen2_vl" else images)
        )
        path.write_text(json.dumps(settings))
    assert write_image_settings(processor, tmp_path) == []
    found = processor_identity(load_processor(str(tmp_path)))
    expected = processor_identity(processor)
    assert found == {key: value for key, value in expected.items() if key != "image_settings"}


def test_what_files_cannot_say_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    processor = loaded(folders["internvl"], crop_to_patches=False)
    TINY["internvl"].build(0)[1].save_pretrained(tmp_path)
    (told,) = write_image_settings(processor, tmp_path)
    assert "InternVLProcessor says crop_to_patches=True at each call" in told
    assert "Hand crop_to_patches=False to it" in told
