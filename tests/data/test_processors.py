"""Tests of loaded processors: the class that was saved, with the same encoding of every conversation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ProcessorMixin

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY, TinyFamily
from vlm_lit.data.checkpoint.processors import load_processor, takes_suffix
from vlm_lit.errors import ConfigError

FAMILIES = pytest.mark.parametrize("family", TINY.values(), ids=TINY)
SIZES = [(40, 32), (64, 20), (24, 48)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with each family's processor, as this version of transformers saves it."""
    made = {name: tmp_path_factory.mktemp(name) for name in TINY}
    for name, folder in made.items():
        TINY[name].build(0)[1].save_pretrained(folder)
    return made


def as_older_versions_saved(folder: Path, to: Path) -> Path:
    """The same processor with a file for the pictures, one for the videos, and the template in JSON."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    settings = json.loads((to / "processor_config.json").read_text())
    name = settings.pop("processor_class")
    (to / "processor_config.json").unlink()
    parts = {"preprocessor_config.json": "image_processor", "video_preprocessor_config.json": "video_processor"}
    for file_name, part in parts.items():
        if part in settings:
            (to / file_name).write_text(json.dumps({**settings.pop(part), "processor_class": name}))
    if settings:
        (to / "processor_config.json").write_text(json.dumps({**settings, "processor_class": name}))
    template = to / "chat_template.jinja"
    if template.exists():
        (to / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
        template.unlink()
    return to


def encoded(processor: ProcessorMixin, pictures: int) -> dict[str, Any]:
    images = [tiny_models.picture(k, SIZES[k]) for k in range(pictures)]
    if processor.chat_template is None:
        text, answer = "<image>" * pictures + "what colour?", {"suffix": ["red"]}
    else:
        asked = [*({"type": "image"} for _ in images), {"type": "text", "text": "what colour?"}]
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        ]
        text, answer = processor.apply_chat_template(turns, tokenize=False), {}
    return dict(processor(text=[text], images=[images] if images else None, return_tensors=None, **answer))


def check_same_encodings(family: TinyFamily, loaded: ProcessorMixin, made: ProcessorMixin) -> None:
    assert type(loaded).__name__ == type(made).__name__
    for pictures in family.images:
        one, other = encoded(loaded, pictures), encoded(made, pictures)
        assert one.keys() == other.keys()
        assert [name for name in one if not np.array_equal(one[name], other[name])] == []


@FAMILIES
def test_a_saved_processor_reads_as_the_one_it_was_saved_from(family: TinyFamily, folders: dict[str, Path]) -> None:
    check_same_encodings(family, load_processor(str(folders[family.name])), family.build(0)[1])


@FAMILIES
def test_so_does_one_in_the_files_of_older_versions(
    family: TinyFamily, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = as_older_versions_saved(folders[family.name], tmp_path)
    check_same_encodings(family, load_processor(str(folder)), family.build(0)[1])


@FAMILIES
def test_so_does_one_that_crossed_to_a_worker_process(family: TinyFamily, folders: dict[str, Path]) -> None:
    loaded = load_processor(str(folders[family.name]))
    crossed = pickle.loads(pickle.dumps(loaded))
    assert type(crossed) is type(loaded)
    check_same_encodings(family, crossed, loaded)


def test_only_paligemma_takes_its_answer_as_a_suffix(folders: dict[str, Path]) -> None:
    takers = [name for name, folder in folders.items() if takes_suffix(load_processor(str(folder)))]
    assert takers == ["paligemma"]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "pixtral"])
def test_a_processor_without_a_template_is_refused_with_the_remedy(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    for file in folders[name].iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"no chat template.* put a chat_template\.jinja of your own beside"):
        load_processor(str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert load_processor(str(tmp_path)).chat_template == "{{ messages }}"


@pytest.mark.parametrize("name", ["NoSuchProcessor", "pipeline", "AutoTokenizer", ""])
def test_a_class_that_is_no_processor_is_refused(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["llava"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_class": name}))
    with pytest.raises(ConfigError, match=f"No processor for model_id .*{name!r}"):
        load_processor(str(tmp_path))


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json"])
def test_a_torn_file_is_refused(file: str, folders: dict[str, Path], tmp_path: Path) -> None:
    for whole in folders["qwen2_vl"].iterdir():
        (tmp_path / whole.name).write_bytes(whole.read_bytes())
    (tmp_path / file).write_text('{"processor_class": "Qwen2VL')
    with pytest.raises(ConfigError, match="No processor for model_id"):
        load_processor(str(tmp_path))


def test_a_folder_without_a_processor_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No processor for model_id"):
        load_processor(str(tmp_path))
    for file in folders["llava"].glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("processor_class")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="takes no pictures"):
        load_processor(str(tmp_path))


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_a_checkpoints_own_code_is_not_run(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders[name].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    path = tmp_path / "processor_config.json"
    settings = json.loads(path.read_text())
    settings |= {"processor_class": None, "auto_map": {"AutoProcessor": "own.Own"}}
    path.write_text(json.dumps(settings))
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Own", null]}}')
    with pytest.raises(ConfigError, match="No processor for model_id"):
        load_processor(str(tmp_path))
    assert not ran.exists()
