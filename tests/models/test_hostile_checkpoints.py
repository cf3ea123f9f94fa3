"""Tests of checkpoints and adapters from strangers: a sentence each, no code of theirs, no more than a machine has."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from tests.support import loaded, small_config
from tests.support.refusals import refusal, run_dir
from tests.support.tiny_families.catalogue import save
from vlm_lit.cli import main
from vlm_lit.commands.merge_run import probe
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.checkpoint_settings import check_checkpoint_settings
from vlm_lit.models.loading import load_base, load_config
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.quantization import Precision
from vlm_lit.training.opened_model import open_model

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
Change = Callable[[Path], object]
CANARY: Final = "sung"


class Evil:
    """Runs a program where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def setting(file: str, *path: str, **values: Any) -> Change:
    """Changes settings of a JSON file, those below `path`."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        here = content
        for key in path:
            here = here.setdefault(key, {})
        here.update(values)
        (folder / file).write_text(json.dumps(content))

    return change


def written(file: str, text: str) -> Change:
    return lambda folder: (folder / file).write_text(text)


def linked(file: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(target)

    return change


def without_word(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["vocab"]["\u0120ASSISTANT"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


DEEP: Final = "[" * 100_000
KERNEL: Final = "evil/kernel"
SETTINGS: Final[dict[str, tuple[Change, str]]] = {
    "attention of the hub": (setting("config.json", attn_implementation=KERNEL), "whose code would be run"),
    "attention, private": (setting("config.json", _attn_implementation=KERNEL), "whose code would be run"),
    "attention, internal": (setting("config.json", _attn_implementation_internal=KERNEL), "whose code would be run"),
    "attention of a part": (setting("config.json", "text_config", attn_implementation=KERNEL), "code would be run"),
    "attention by parts": (setting("config.json", attn_implementation={"text_config": KERNEL}), "code would be run"),
    "experts of the hub": (setting("config.json", experts_implementation=KERNEL), "whose code would be run"),
    "a billion layers": (setting("config.json", "text_config", num_hidden_layers=10**9), "no model has more than"),
    "a deep vision tower": (setting("config.json", "vision_config", num_hidden_layers=10**9), "no model has more"),
    "huge pictures": (
        setting("processor_config.json", "image_processor", size={"height": 10**6, "width": 9}),
        "larger",
    ),
    "huge crops": (setting("processor_config.json", "image_processor", crop_size=10**6), "larger than 20,000"),
    "many pixels": (setting("processor_config.json", "image_processor", min_pixels=10**12), "no picture has more"),
    "many pixels by edges": (
        setting("processor_config.json", "image_processor", merge_size=2, size={"shortest_edge": 10**12}),
        "larger than 89,478,485",
    ),
    "many tiles": (setting("processor_config.json", "image_processor", max_image_tiles=10**9), "cut into more than"),
    "weights elsewhere": (
        setting("model.safetensors.index.json", weight_map={"a": "../../a.safetensors"}),
        "in another",
    ),
    "config cut": (written("config.json", "{"), "is not valid JSON"),
    "config deep": (written("config.json", DEEP), "is not valid JSON"),
    "config a list": (written("config.json", "[1]"), "holds no settings, but a list"),
    "tokenizer's config deep": (written("tokenizer_config.json", DEEP), "is not valid JSON"),
    "processor's config deep": (written("processor_config.json", DEEP), "is not valid JSON"),
    "generation config cut": (written("generation_config.json", "{"), "is not valid JSON"),
    "a link to a secret": (linked("chat_template.jinja", "/etc/passwd"), "which is no file of a checkpoint"),
}
PROCESSORS: Final[dict[str, Change]] = {
    "a class of ours": setting("processor_config.json", processor_class="os.system"),
    "an unknown class": setting(
        "processor_config.json", processor_class="Evil", auto_map={"AutoProcessor": "evil.Evil"}
    ),
    "a class of another kind": setting("processor_config.json", processor_class="LlamaTokenizer"),
    "a private name": setting("processor_config.json", processor_class="__class__"),
    "a list of classes": setting("processor_config.json", processor_class=["LlavaProcessor"]),
    "a tokenizer of a number": setting("tokenizer_config.json", tokenizer_class=7),
    "an image processor": setting("processor_config.json", "image_processor", image_processor_type="os.system"),
    "a size in words": setting("processor_config.json", "image_processor", size="big"),
    "tokenizer cut": written("tokenizer.json", "{"),
    "tokenizer of another kind": written("tokenizer.json", '{"model": {"type": "Evil"}}'),
    "template cut": written("chat_template.jinja", "{% for"),
    "a vocabulary with a gap, at which the tokenizer's own code panics": without_word,
}
USED: Final[dict[str, Change]] = {
    "a crop of a list": setting("processor_config.json", "image_processor", "crop_size", height=[1]),
    "a crop of nothing": setting("processor_config.json", "image_processor", "crop_size", height=None),
    "a scale in words": setting("processor_config.json", "image_processor", rescale_factor="x"),
}
WEIGHTS: Final[dict[str, bytes]] = {
    "no header": b"\xff" * 100,
    "a huge header": struct.pack("<Q", 2**62) + b"{}",
    "nothing": b"",
    "a header alone": struct.pack("<Q", 2) + b"{}",
    "tensors beyond the end": struct.pack("<Q", 59) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,99999]}}  ',
}


@pytest.fixture
def folder(tiny_llava: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llava, tmp_path / "checkpoint"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("change", "said"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting(change: Change, said: str, folder: Path) -> None:
    change(folder)
    for load in (load_config, load_processor):
        with pytest.raises(ConfigError) as refused:
            load(str(folder))
        assert said in str(refused.value)
        assert str(folder) in str(refused.value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", PROCESSORS.values(), ids=PROCESSORS)
def test_a_processor(change: Change, folder: Path) -> None:
    from vlm_lit.data.rows.masking import Transcript

    change(folder)
    (folder / "evil.py").write_text(f"open({str(folder / CANARY)!r}, 'w')")
    with pytest.raises(ConfigError):
        _ = Transcript(load_processor(str(folder))).facts
    assert not (folder / CANARY).exists()


@pytest.mark.parametrize("change", USED.values(), ids=USED)
def test_a_processor_that_fails_at_its_first_picture(change: Change, folder: Path) -> None:
    change(folder)
    with pytest.raises(RecordError, match="the processor refuses the conversation"):
        probe(load_processor(str(folder)))


@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS)
def test_weights(data: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(data)
    parts = loaded.settings(language_model=loaded.FP32, projector=loaded.FP32)
    if data == WEIGHTS["a header alone"]:
        return  # a file of no tensors is one; what it lacks is another test's
    with pytest.raises(ConfigError, match=r"cannot be loaded: .* Fetch them again"):
        load_base(str(folder), parts=parts, quantization=loaded.QUANTIZATION)


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_quantized_weights_of_another_shape(precision: Precision, folder: Path) -> None:
    setting("config.json", "text_config", num_key_value_heads=1)(folder)
    parts = loaded.settings(language_model=PartSettings(precision=precision, training="lora"))
    with pytest.raises(ConfigError, match=r"k_proj is 32 x 64 by .*, and its weights are 64 x"):
        load_base(str(folder), parts=parts, quantization=loaded.QUANTIZATION)


@pytest.mark.parametrize("precision", ["nf4", "fp32"])
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (3, r"lack \d+ parameters of the model, or .* the first is model.language_model.layers.2"),
        (1, r"has no place for; the first is model.language_model.layers.1.* counts 1 decoder layers"),
    ],
)
def test_weights_of_another_number_of_layers(layers: int, said: str, precision: Precision, folder: Path) -> None:
    setting("config.json", "text_config", num_hidden_layers=layers)(folder)
    parts = loaded.settings(language_model=PartSettings(precision=precision, training="lora"))
    with pytest.raises(ConfigError, match=said):
        load_base(str(folder), parts=parts, quantization=loaded.QUANTIZATION)


@pytest.mark.parametrize(
    "change",
    [
        setting("processor_config.json", patch_size=7),
        setting("processor_config.json", "image_processor", "crop_size", width=7),
        setting("config.json", image_token_index=7),
    ],
)
def test_a_processor_of_another_model(change: Change, folder: Path, config: Config, capsys: Capture) -> None:
    change(folder)
    said = refusal(capsys, "fit", "--config", str(config()), "--model.init_args.model_id", str(folder))
    assert "The model cannot take what the processor makes: " in said
    assert "belong to different models" in said


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("name", ["mllama", "qwen2_vl", "qwen2_5_vl", "gemma3"])
def test_image_settings_that_were_lost(name: str, small: Path, tmp_path: Path, capsys: Capture) -> None:
    """The processor's class then has settings of its own, which are another model's."""
    folder = save(name, tmp_path / "checkpoint")
    edited(folder / "processor_config.json", lambda content: content.update(image_processor={}))
    path = small_config.write(tmp_path, folder, small)
    assert "The model cannot take what the processor makes: " in refusal(capsys, "fit", "--config", str(path))


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize(
    "sections", [[2, 3, 4], [0, 4, 4], [4, 4], [2.0, 3.0, 3.0], "233", None], ids=lambda sections: str(sections)
)
def test_rotary_sections_that_are_none(name: str, sections: object, tmp_path: Path) -> None:
    folder = save(name, tmp_path)
    setting("config.json", "text_config", "rope_parameters", mrope_section=sections)(folder)
    with pytest.raises(ConfigError, match=r"three whole numbers that add up to 8, half of"):
        load_config(str(folder))


def test_an_attention_of_the_hub(folder: Path) -> None:
    parts = loaded.settings(language_model=loaded.FP32, projector=loaded.FP32)
    with pytest.raises(ConfigError, match="attention is evil/kernel, a repository whose code would be fetched"):
        load_base(str(folder), parts=parts, quantization=loaded.QUANTIZATION, attention=KERNEL)


def test_links_that_people_make_are_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "blobs"
    elsewhere.mkdir()
    for name, new in (("config.json", "0af3"), ("tokenizer.json", "9b21")):
        shutil.move(folder / name, elsewhere / new)
        (folder / name).symlink_to(elsewhere / new)
    shutil.move(folder / "model.safetensors", tmp_path / "llava.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "llava.safetensors")
    check_checkpoint_settings(folder)


# Adapters -------------------------------------------------------------------------------------------------------------


def bytes_of(file: str, data: bytes) -> Change:
    return lambda run: (run / file).write_bytes(data)


def pickled_alone(run: Path) -> None:
    (run / "adapter/adapter_model.safetensors").unlink()
    torch.save({"a": Evil(run / CANARY)}, run / "adapter/adapter_model.bin")


CONFIG, FINGERPRINT = "adapter/adapter_config.json", "adapter/fingerprint.json"


def edited(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


ADAPTERS: Final[dict[str, Change]] = {
    "weights that are none": bytes_of("adapter/adapter_model.safetensors", b"\xff" * 100),
    "weights that are empty": bytes_of("adapter/adapter_model.safetensors", b""),
    "weights that are a pickle": lambda run: (run / "adapter/adapter_model.safetensors").write_bytes(
        pickle.dumps(Evil(run / CANARY))
    ),
    "weights in a .bin alone": pickled_alone,
    "a pattern without end": setting(CONFIG, target_modules="(a+)+$|((.*)*)*x"),
    "a pattern that is none": setting(CONFIG, target_modules="("),
    "a huge rank": setting(CONFIG, r=10**12),
    "a rank in words": setting(CONFIG, r="x"),
    "an unknown kind": setting(CONFIG, peft_type="EVIL"),
    "a module of another": setting(CONFIG, megatron_config={"a": 1}, megatron_core="os"),
    "tokens beyond": setting(CONFIG, trainable_token_indices=[10**12]),
    "a config cut": written(CONFIG, "{"),
    "a deep config": written(CONFIG, DEEP),
    "a fingerprint cut": written(FINGERPRINT, "{"),
    "a deep fingerprint": written(FINGERPRINT, DEEP),
    "a base that is none": setting(FINGERPRINT, "base", model_id=7),
    "a processor that is a list": setting(FINGERPRINT, processor=[1]),
    "image settings that are none": setting(FINGERPRINT, "processor", image_settings={"evil": 1}),
    "answers that are a number": setting(FINGERPRINT, answers=7),
    "a base without a name": lambda run: edited(run / FINGERPRINT, lambda content: content["base"].pop("model_id")),
    "digests that are a list": setting(FINGERPRINT, "base", weights_sha256=[1]),
    "a digest that is a number": setting(FINGERPRINT, "base", "weights_sha256", **{"model.safetensors": 7}),
    "a commit that is a list": setting(FINGERPRINT, "base", commit=["a"]),
    "a step in words": setting(FINGERPRINT, global_step="x"),
    "ranks that are a number": setting(CONFIG, rank_pattern=7),
    "answers of a classifier": setting(FINGERPRINT, answers=["yes", "no"]),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llava: Path, small: Path) -> Path:
    """The directory of a finished run."""
    path = small_config.write(tmp_path_factory.mktemp("finished"), tiny_llava, small)
    assert main(["fit", "--config", str(path)]) == 0
    return run_dir(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter(change: Change, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    change(run)
    refusal(capsys, "merge", str(run), "--output", str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()
    assert not (run / CANARY).exists()


ALIASES: Final = "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(24))
OPENED: Final[dict[str, Change]] = {
    "no parts": lambda run: edited(run / FINGERPRINT, lambda content: content.pop("parts")),
    "parts that are a list": setting(FINGERPRINT, parts=[1]),
    "a part of another name": setting(FINGERPRINT, "parts", evil={"precision": "fp32"}),
    "a part that is a word": setting(FINGERPRINT, "parts", head="x"),
    "a precision that there is not": setting(FINGERPRINT, "parts", "head", precision=[1]),
    "a learning rate in words": setting(FINGERPRINT, "parts", "head", learning_rate="x"),
    "no LoRA": lambda run: edited(run / FINGERPRINT, lambda content: content.pop("lora")),
    "a rank in words for the layers": setting(FINGERPRINT, "lora", rank="x"),
    "targets that there are not": setting(FINGERPRINT, "lora", targets=["__class__"]),
    "a dropout that is a list": setting(FINGERPRINT, "lora", dropout=[0.1]),
    "no quantization": lambda run: edited(run / FINGERPRINT, lambda content: content.pop("quantization")),
    "a dtype that there is not": setting(FINGERPRINT, "quantization", compute_dtype="x"),
    "a truth that is a word": setting(FINGERPRINT, "quantization", double_quant={"a": 1}),
    "a seed in words": setting(FINGERPRINT, seed="x"),
    "a config of aliases": written("config.yaml", ALIASES),
    "a config of a longest answer in words": written("config.yaml", "model: {max_new_tokens: x}"),
    "a config of a prompt that is a list": written("config.yaml", "data: {prompt: [1]}"),
    "a config of answers that are a number": written("config.yaml", "model: {answer_from: 7}"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", OPENED.values(), ids=OPENED)
def test_a_run_that_is_asked(change: Change, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    change(run)
    with pytest.raises(ConfigError) as refused:
        open_model(str(run))
    assert str(run) in str(refused.value)
