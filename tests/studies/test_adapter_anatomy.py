"""Tests of an adapter's norms and singular values: those of the whole product, by part and layer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from tests.support.tiny_models import save_llava
from vlm_lit.errors import VlmLitError
from vlm_lit.models.adapter_state import save_adapter
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.studies.page_parts.adapter_anatomy_plots import anatomy_plots
from vlm_lit.studies.run_files.adapter_anatomy import adapter_anatomy, singular_values

LAYER = "model.language_model.layers.{}.self_attn.{}"
SETTINGS = {
    "peft_type": "LORA",
    "lora_alpha": 6,
    "auto_mapping": {"base_model_class": "LlavaForConditionalGeneration"},
}


def pair(module: str, rank: int = 3, outputs: int = 7, inputs: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """A and B of one module under the names that PEFT gives them."""
    made = torch.Generator().manual_seed(seed)
    return {
        f"base_model.model.{module}.lora_A.weight": torch.randn(rank, inputs, generator=made),
        f"base_model.model.{module}.lora_B.weight": torch.randn(outputs, rank, generator=made),
    }


def written(folder: Path, tensors: Mapping[str, Tensor], **settings: object) -> Path:
    """An adapter's two files."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(("outputs", "inputs", "rank"), [(40, 30, 4), (3, 30, 8), (40, 3, 8), (9, 9, 1)])
def test_the_small_factors_have_the_singular_values_of_the_whole(outputs: int, inputs: int, rank: int) -> None:
    made = np.random.default_rng(0)
    b, a = made.normal(size=(outputs, rank)), made.normal(size=(rank, inputs))
    whole = np.linalg.svd(b @ a, compute_uv=False)[: min(outputs, inputs, rank)]
    np.testing.assert_allclose(singular_values(b, a), whole, rtol=1e-10)


def test_the_update_is_what_peft_adds(tmp_path: Path) -> None:
    """A real adapter on a tiny LLaVA: the norm of what merging would add to each layer, for every layer."""
    base = AutoModelForImageTextToText.from_pretrained(save_llava(tmp_path / "base"))
    parts = PartsSettings(
        vision_tower=PartSettings(training="lora"),
        projector=PartSettings(training="full"),
        language_model=PartSettings(training="lora"),
        head=PartSettings(),
    )
    model = attach_adapters(base, FAMILIES["llava"], parts, LoraSettings(rank=2, alpha=5.0), seed=0)
    made = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=made)
    save_adapter(model, tmp_path / "run" / "adapter", {})

    anatomy = adapter_anatomy(tmp_path / "run")
    added = _added(model)
    assert {f"{u.stack}.{u.layer}.{u.leaf}": u.norm for u in anatomy.updates} == pytest.approx(added, rel=1e-5)
    assert {u.part for u in anatomy.updates} == {"vision_tower", "language_model"}
    assert anatomy.stacks[0] == "model.language_model.layers"
    assert {u.part for u in anatomy.of(anatomy.stacks[0])} == {"language_model"}
    projector = base.model.multi_modal_projector
    saved = [p for name, p in projector.named_parameters() if "modules_to_save" in name]
    assert anatomy.in_full == {"projector": sum(p.numel() for p in saved)}


def _added(model: PeftModel) -> dict[str, float]:
    """Norms of the updates as PEFT itself multiplies them out."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    return {
        name.removeprefix("base_model.model."): float(layer.get_delta_weight("default").detach().norm())
        for name, layer in layers.items()
    }


def test_where_an_update_lies(tmp_path: Path) -> None:
    names = [LAYER.format(10, "q_proj"), LAYER.format(9, "v_proj"), "model.multi_modal_projector.linear_1"]
    tensors = {key: value for name in names for key, value in pair(name).items()}
    anatomy = adapter_anatomy(written(tmp_path, tensors))
    assert [(u.part, u.layer, u.leaf, u.rank) for u in anatomy.updates] == [
        ("language_model", 9, "self_attn.v_proj", 3),
        ("language_model", 10, "self_attn.q_proj", 3),
        ("projector", None, "linear_1", 3),
    ]
    assert anatomy.stacks == ("model.language_model.layers", "model.multi_modal_projector")


def test_the_scale_is_alpha_over_rank_or_over_its_root(tmp_path: Path) -> None:
    tensors = pair(LAYER.format(0, "q_proj"))
    a, b = tensors.values()
    plain = float((b @ a).norm())
    (found,) = adapter_anatomy(written(tmp_path, tensors)).updates
    assert found.norm == pytest.approx(6 / 3 * plain)
    (found,) = adapter_anatomy(written(tmp_path, tensors, use_rslora=True)).updates
    assert found.norm == pytest.approx(6 / math.sqrt(3) * plain)


def test_the_stable_rank_counts_equal_directions(tmp_path: Path) -> None:
    tensors = pair(LAYER.format(0, "q_proj"), rank=3, outputs=3, inputs=3)
    equal = dict.fromkeys(tensors, torch.eye(3))
    (found,) = adapter_anatomy(written(tmp_path, {k: v.clone() for k, v in equal.items()})).updates
    assert found.stable_rank == pytest.approx(3.0)
    (found,) = adapter_anatomy(written(tmp_path, {k: torch.zeros(3, 3) for k in tensors})).updates
    assert (found.norm, found.stable_rank) == (0.0, 0.0)  # B starts at zero


QUERY = LAYER.format(0, "q_proj")
A, B = pair(QUERY)


@pytest.mark.parametrize(
    ("tensors", "settings", "says"),
    [
        ({}, {"peft_type": "IA3"}, "is no LoRA adapter's"),
        ({}, {"use_dora": True}, "use_dora is set, so its update is not"),
        ({}, {"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is set"),
        ({}, {"lora_alpha": None}, "lora_alpha is no number"),
        ({}, {"auto_mapping": None}, "base_model_class is None, which is no family known here"),
        ({"lost": torch.ones(1)}, {}, "lost belongs to no part"),
        ({B: torch.ones(7, 4)}, {}, f"A and B of {QUERY} do not fit"),
        ({A: torch.full((3, 5), math.nan)}, {}, "not finite"),
        ({A: torch.ones(3, 5, 1, 1)}, {}, "Only LoRA on linear layers"),
        ({f"base_model.model.{QUERY}.lora_embedding_A": torch.ones(3, 5)}, {}, "is no A or B of a linear layer"),
    ],
)
def test_what_cannot_be_reckoned_is_refused(
    tensors: dict[str, Tensor], settings: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(VlmLitError, match=says):
        adapter_anatomy(written(tmp_path, {**pair(QUERY), **tensors}, **settings))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path, pair(QUERY))
    (folder / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(VlmLitError, match=r"adapter_model.safetensors: is damaged"):
        adapter_anatomy(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(VlmLitError, match=r"adapter_config.json: the text ends too early"):
        adapter_anatomy(folder)
    with pytest.raises(VlmLitError, match="holds no adapter"):
        adapter_anatomy(tmp_path / "gone")


def test_each_stack_has_a_map_and_its_curves(tmp_path: Path) -> None:
    names = [LAYER.format(i, leaf) for i in range(3) for leaf in ("q_proj", "v_proj")]
    names += ["model.multi_modal_projector.linear_1"]
    tensors = {key: value for i, name in enumerate(names) for key, value in pair(name, seed=i).items()}
    plots = anatomy_plots(adapter_anatomy(written(tmp_path, tensors)))
    stems = ("norms", "singular_values", "norms_2", "singular_values_2")
    assert plots.keys() == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for stem in stems:
        with Image.open(BytesIO(plots[f"{stem}.png"])) as image:
            assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
