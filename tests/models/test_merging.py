"""Tests of equality 8 (merged == unmerged), for every family, from the files that other programs read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.support.loaded import adapted, settings
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.commands.merge_run import probe
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, base_identity, save_adapter
from vlm_lit.models.merge.agreement import compare, text_logits
from vlm_lit.models.merge.merging import (
    image_token,
    load_model,
    load_tuned,
    merge,
    round_full_parts,
    save_merged,
    weight_names,
    with_dtype,
)
from vlm_lit.models.parts import PartSettings

BF16 = torch.bfloat16
LORA_EVERYWHERE = PartSettings(precision="fp32", training="lora")


def train(base: Path, adapter: Path, **parts: PartSettings) -> Path:
    """An adapter whose every weight, LoRA's B included, was moved off its start."""
    model, _ = adapted(base, settings(**parts), targets=["attention", "mlp"])
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    save_adapter(model, adapter, {"base": base_identity(str(base), None, None)})
    return adapter


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and its adapter: LoRA on tower and language model, the projector in full."""
    folder = tmp_path_factory.mktemp("llava")
    base = save("llava", folder / "base")
    return base, train(base, folder / "adapter", vision_tower=LORA_EVERYWHERE)


def logits(model: nn.Module, base: Path) -> Tensor:
    return text_logits(model, probe(load_processor(str(base))), image_token(model))


@pytest.mark.parametrize("name", TINY)
def test_merged_equals_unmerged_as_reloaded(name: str, tmp_path: Path) -> None:
    base = save(name, tmp_path / "base")
    adapter = train(base, tmp_path / "adapter")
    tuned = load_tuned(base, adapter, torch.float32)
    expected = logits(tuned, base)
    with tuned.disable_adapter():
        learned = compare(logits(tuned, base), expected)
    save_merged(merge(tuned, torch.float32), base, tmp_path / "merged")
    found = compare(expected, logits(load_model(tmp_path / "merged"), base))
    # W + BA in one matrix rounds once where two products round twice: a few float32 steps at logits of this size.
    assert found.difference < 1e-5 * max(1.0, found.size)
    assert found.same_top == 1.0
    assert learned.difference > 0.5
    assert weight_names(tmp_path / "merged") == weight_names(base)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3", "mllama"])
def test_merged_in_16_bit_is_close_and_the_processor_comes_along(name: str, tmp_path: Path) -> None:
    base = save(name, tmp_path / "base")
    adapter = train(base, tmp_path / "adapter")
    tuned = load_tuned(base, adapter, BF16)
    round_full_parts(tuned, BF16)
    expected = logits(tuned, base)
    save_merged(merge(load_tuned(base, adapter), BF16), base, tmp_path / "merged")
    # Read by its own config.json and processor files: bfloat16 keeps 8 bits, and some tens of products are chained.
    found = compare(expected, logits(load_model(tmp_path / "merged"), tmp_path / "merged"))
    assert found.difference < 0.03 * found.size
    assert found.same_top > 0.9
    beside = {path.name for path in base.iterdir() if path.suffix != ".safetensors"}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == beside | {"model.safetensors"}


def test_a_weight_is_the_float32_sum_rounded_once(llava: tuple[Path, Path]) -> None:
    base, adapter = llava
    exact = merge(load_tuned(base, adapter, torch.float32), torch.float32).state_dict()
    merged = merge(load_tuned(base, adapter), BF16).state_dict()
    assert all(torch.equal(merged[name], exact[name].to(BF16)) for name in exact)
    twice = PeftModel.from_pretrained(load_model(base, BF16), str(adapter)).merge_and_unload().state_dict()
    assert any(not torch.equal(twice[name], merged[name]) for name in exact)  # the base rounded first is another sum


def test_fp16_weights_of_the_base_are_not_rounded_to_bf16_before_the_sum(
    llava: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = llava
    load_model(base, torch.float16).save_pretrained(tmp_path / "half")
    exact = merge(load_tuned(tmp_path / "half", adapter, torch.float32), torch.float32).state_dict()
    merged = merge(load_tuned(tmp_path / "half", adapter), BF16).state_dict()
    assert load_model(tmp_path / "half").dtype == torch.float16
    assert all(torch.equal(merged[name], exact[name].to(BF16)) for name in exact)


def test_the_files_are_the_bases_in_everything_but_weights_and_dtype(llava: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = llava
    (own := tmp_path / "own").mkdir()
    for path in base.iterdir():
        shutil.copyfile(path, own / path.name)
    settings = {**json.loads((base / "config.json").read_text()), "torch_dtype": "float32", "note": "mine"}
    settings["text_config"]["dtype"] = "float32"
    (own / "config.json").write_text(json.dumps(settings))
    (own / "generation_config.json").write_text(
        '{"temperature": 0.5, "do_sample": false}'
    )  # transformers won't save it
    (own / "notes.json").write_text('{"private": true}')
    save_merged(merge(load_tuned(own, adapter), BF16), own, tmp_path / "merged")
    written = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert written == with_dtype(settings, "bfloat16")
    assert written["torch_dtype"] == written["dtype"] == written["text_config"]["dtype"] == "bfloat16"
    assert written["note"] == "mine"
    assert not (tmp_path / "merged" / "notes.json").exists()
    for name in ("generation_config.json", "chat_template.jinja", "tokenizer.json", "processor_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (own / name).read_bytes()
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged" / "model.safetensors").values()} == {BF16}


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_an_adapter_of_which_a_key_is_not_used_is_refused(
    change: str, llava: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = llava
    shutil.copytree(adapter, tmp_path / "adapter")
    state = load_file(adapter / WEIGHTS)
    if change == "missing":
        del state[next(key for key in state if "multi_modal_projector" in key)]
    else:
        state["base_model.model.model.unknown.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "adapter" / WEIGHTS)
    with pytest.raises(ConfigError, match="1 parameters missing" if change == "missing" else "1 left over"):
        load_tuned(base, tmp_path / "adapter")


def test_a_base_that_lacks_weights_is_refused(llava: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = llava
    shutil.copytree(base, tmp_path / "base")
    state = load_file(base / "model.safetensors")
    del state[next(key for key in state if "multi_modal_projector" in key)]
    save_file(state, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="lack 1 parameters, the first"):
        load_model(tmp_path / "base")


def test_only_lora_is_merged(llava: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = llava
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ConfigError, match="only LoRA adapters can be used"):
        load_tuned(base, tmp_path / "adapter")
