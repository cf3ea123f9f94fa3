"""Tests of equality 8: the saved adapter on a fresh base is the trained model, and merged equals unmerged."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from tests.support import tiny_models
from tests.support.loaded import FP32, QUANTIZATION, adapted, settings
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, load_adapter, save_adapter, trainable_state
from vlm_lit.models.loading import load_base
from vlm_lit.models.parts import PartSettings


def inputs() -> dict[str, Tensor]:
    processor = tiny_models.llava_processor()
    text = "USER: <image>\nwhat? ASSISTANT: red</s>"
    return dict(processor(text=[text], images=[[tiny_models.picture(1)]], return_tensors="pt"))


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    found: Tensor = model.eval()(**inputs()).logits
    return found


def disturb(model: torch.nn.Module) -> None:
    """Stand in for training: move every trained weight, LoRA's B included."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_state(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.fixture(scope="module")
def trained(tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A saved adapter, the trained model's logits and the base's."""
    model, _ = adapted(tiny_llava)
    before = logits(model)
    disturb(model)
    folder = tmp_path_factory.mktemp("run") / "adapter"
    save_adapter(model, folder, {"base": "tiny"})
    return folder, logits(model), before


def test_reloaded_equals_trained(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, expected, before = trained
    fresh, _ = adapted(tiny_llava)
    load_adapter(fresh, folder)
    assert torch.equal(logits(fresh), expected)
    assert not torch.allclose(before, expected, atol=1e-2)  # the adapter does change the model


def test_plain_peft_loads_it_without_our_code(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, expected, _ = trained
    base, _ = load_base(str(tiny_llava), parts=settings(), quantization=QUANTIZATION)
    assert torch.equal(logits(PeftModel.from_pretrained(base, str(folder))), expected)


def test_merged_equals_unmerged(tiny_llava: Path, trained: tuple[Path, Tensor, Tensor]) -> None:
    folder, _, _ = trained
    base = AutoModelForImageTextToText.from_pretrained(tiny_llava, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(folder))
    unmerged = logits(tuned)
    merged = logits(tuned.merge_and_unload())
    # W + BA in one matrix rounds once where two products round twice: a few float32 steps at logits of this size.
    torch.testing.assert_close(merged, unmerged, rtol=1e-5, atol=1e-5)


def test_a_float32_projector_stays_exact_on_a_bfloat16_base(tiny_llava: Path, tmp_path: Path) -> None:
    bf16 = PartSettings(precision="bf16")
    parts = settings(vision_tower=bf16, projector=PartSettings(precision="bf16", training="full"), head=bf16)
    model, _ = adapted(tiny_llava, parts)
    disturb(model)
    save_adapter(model, tmp_path / "adapter", {})
    fresh, _ = adapted(tiny_llava, parts)
    load_adapter(fresh, tmp_path / "adapter")
    expected, found = trainable_state(model), trainable_state(fresh)
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_an_adapter_that_does_not_fit_is_refused(
    change: str, tiny_llava: Path, trained: tuple[Path, Tensor, Tensor], tmp_path: Path
) -> None:
    state = load_file(trained[0] / WEIGHTS)
    first = next(name for name in state if "lora_A" in name)
    if change == "missing":
        del state[first]
    elif change == "extra":
        state["unknown.weight"] = torch.zeros(1)
    else:
        state[first] = torch.zeros(2, 2)
    save_file(state, tmp_path / WEIGHTS)
    fresh, _ = adapted(tiny_llava)
    with pytest.raises(ConfigError, match="parameters missing" if change != "shape" else "has shape"):
        load_adapter(fresh, tmp_path)


def test_a_folder_without_weights_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    fresh, _ = adapted(tiny_llava)
    with pytest.raises(ConfigError, match=r"holds no adapter_model\.safetensors"):
        load_adapter(fresh, tmp_path)


def test_the_fingerprint_lists_the_keys(trained: tuple[Path, Tensor, Tensor]) -> None:
    fingerprint = json.loads((trained[0] / "fingerprint.json").read_text())
    assert fingerprint["base"] == "tiny"
    assert fingerprint["keys"] == sorted(load_file(trained[0] / WEIGHTS))
    assert any("multi_modal_projector" in key for key in fingerprint["keys"])


def test_saving_again_replaces_the_folder(tiny_llava: Path, tmp_path: Path) -> None:
    model, _ = adapted(tiny_llava, settings(projector=FP32))
    for name in ("first", "second"):
        save_adapter(model, tmp_path / "adapter", {"base": name})
    assert json.loads((tmp_path / "adapter" / "fingerprint.json").read_text())["base"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
