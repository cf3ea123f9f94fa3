"""Tests of the image backend: the setting alone decides it, and a processor's identity says which it was."""

from __future__ import annotations

import json
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import PIL
import pytest
import torch
from transformers import ProcessorMixin
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import is_torchvision_available

from tests.support import tiny_models
from tests.support.distributions import pretend
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.data.checkpoint.processors import load_processor, processor_identity
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError

FAMILIES = pytest.mark.parametrize("name", TINY)
with_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
without_torchvision = pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")


class OtherImageProcessor(CLIPImageProcessorPil):  # type: ignore[misc]
    """Another class with the same settings."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in TINY}
    for name, folder in made.items():
        TINY[name].build(0)[1].save_pretrained(folder)
    return made


def encoded(processor: ProcessorMixin) -> dict[str, Any]:
    picture = tiny_models.picture(1, (64, 20))
    if processor.chat_template is None:
        text = "<image>what colour?"
    else:
        asked = [{"type": "image"}, {"type": "text", "text": "what colour?"}]
        text = processor.apply_chat_template([{"role": "user", "content": asked}], tokenize=False)
    return dict(processor(text=[text], images=[[picture]], return_tensors="pt"))


@FAMILIES
def test_by_itself_it_is_pillow_whatever_is_installed(name: str, folders: dict[str, Path]) -> None:
    pictures = load_processor(str(folders[name])).image_processor
    assert (pictures.backend, type(pictures).__name__[-3:]) == ("pil", "Pil")
    pictures = ConversationDataModule(str(folders[name])).processor.image_processor
    assert (pictures.backend, type(pictures).__name__[-3:]) == ("pil", "Pil")


@FAMILIES
def test_it_reads_pictures_as_the_families_own_pillow_class_does(name: str, folders: dict[str, Path]) -> None:
    loaded, made = encoded(load_processor(str(folders[name]))), encoded(TINY[name].build(0)[1])
    assert loaded.keys() == made.keys()
    assert all(torch.equal(torch.as_tensor(loaded[key]), torch.as_tensor(made[key])) for key in made)


@with_torchvision
@FAMILIES
def test_torchvision_is_taken_where_it_is_asked_for(name: str, folders: dict[str, Path]) -> None:
    folder = str(folders[name])
    asked = ConversationDataModule(folder, image_backend="torchvision").processor
    for loaded in (asked, pickle.loads(pickle.dumps(asked))):
        assert loaded.image_processor.backend == "torchvision"
        pil, other = encoded(load_processor(folder)), encoded(loaded)
        assert pil.keys() == other.keys()
        assert torch.equal(pil["input_ids"], other["input_ids"])
        pixels, others = pil["pixel_values"], other["pixel_values"]
        assert pixels.shape == others.shape
        assert 0 < (pixels - others).abs().max() < 0.2, "near, and not the same: that is what the setting is for"


@with_torchvision
@FAMILIES
def test_only_the_image_processor_differs_between_the_two(name: str, folders: dict[str, Path]) -> None:
    pil = processor_identity(load_processor(str(folders[name])))
    other = processor_identity(load_processor(str(folders[name]), image_backend="torchvision"))
    different = {key for key in pil if pil[key] != other[key]}
    assert different == {"image_processor_class", "image_backend", "image_libraries"}


@without_torchvision
def test_torchvision_is_refused_where_it_is_not_installed(tiny_llava: Path) -> None:
    said = (
        r"data\.init_args\.image_backend is torchvision, which is not installed: pip install 'vlm_lit\[torchvision\]'"
    )
    with pytest.raises(ConfigError, match=said):
        ConversationDataModule(str(tiny_llava), image_backend="torchvision").setup("fit")
    with pytest.raises(ConfigError, match=said):
        load_processor(str(tiny_llava), image_backend="torchvision")


def test_an_unknown_backend_is_refused(tiny_llava: Path) -> None:
    unknown: Any = "opencv"
    with pytest.raises(ConfigError, match=r"data\.init_args\.image_backend is 'opencv'; it must be pil or torchvision"):
        load_processor(str(tiny_llava), image_backend=unknown)


@with_torchvision
def test_a_backend_that_the_library_lacks_for_a_class_is_not_replaced(tmp_path: Path) -> None:
    """transformers takes the other one with a warning; SAM 2's image processor has no Pillow version."""
    folder = save("llava", tmp_path)
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor"] = {"image_processor_type": "Sam2ImageProcessor"}
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"no pil image processor for it\. Set .*image_backend to torchvision"):
        load_processor(str(folder))


def test_the_identity_says_what_makes_the_pixels(tiny_llava: Path) -> None:
    found = processor_identity(load_processor(str(tiny_llava)))
    assert found["image_backend"] == "pil"
    assert found["image_processor_class"] == "CLIPImageProcessorPil"
    assert found["image_libraries"] == {"pillow": PIL.__version__}
    assert found == json.loads(json.dumps(found))


@with_torchvision
def test_with_torchvision_the_identity_has_its_version_too(tiny_llava: Path) -> None:
    torchvision = import_module("torchvision")

    found = processor_identity(load_processor(str(tiny_llava), image_backend="torchvision"))
    versions = {"pillow": PIL.__version__, "torchvision": torchvision.__version__.partition("+")[0]}
    assert found["image_libraries"] == versions


def test_another_class_with_the_same_settings_is_another_identity(tiny_llava: Path) -> None:
    processor = load_processor(str(tiny_llava))
    before = processor_identity(processor)
    processor.image_processor = OtherImageProcessor(**processor.image_processor.to_dict())
    after = processor_identity(processor)
    assert {key for key in before if before[key] != after[key]} >= {"image_processor_class"}
    assert before["class"] == after["class"]


def test_so_is_another_version_of_the_library(
    tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = load_processor(str(tiny_llava))
    before = processor_identity(processor)
    monkeypatch.syspath_prepend(pretend(tmp_path, "pillow", "99.1.0"))
    after = processor_identity(processor)
    assert after == {**before, "image_libraries": {"pillow": "99.1.0"}}
