"""Vision features: what a frozen tower hands to the projector, used in place of an image's pixels.

Kept is what goes into the projector, caught on its way there while the model's own code runs: whatever a family does
between tower and projector (choice of layer, cropping, shuffling) is in it. The projector runs in every step, trained
or not; what a family does behind it is said here once for each of the ways there are, `Family.projected`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.vision_utils import get_vision_window_index

from vlm_lit.errors import ConfigError
from vlm_lit.models.caught_inputs import caught_inputs
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.tower_boundary import boundary_features, from_boundary, trained_blocks

Features = tuple[Tensor, ...]
"""An image's tensors, one for each of the projector's modules."""

_ASPECT: Final = "aspect_ratio_"


def check_cacheable(family: Family, model_type: str, parts: PartsSettings) -> None:
    """Refuse to keep features that would be wrong in the next step, or that nobody knows how to hand to the model.

    Raises:
        ConfigError: the reason, and what to do.
    """
    tower = parts.vision_tower
    if not family.vision_tower:
        raise ConfigError(
            f"data.init_args.feature_cache keeps what a vision tower says of an image, and model type {model_type!r} "
            "has none. Leave it out."
        )
    if tower.training != "frozen" and tower.last_layers is None:
        raise ConfigError(
            f"data.init_args.feature_cache keeps what the vision tower says of an image, but vision_tower.training is "
            f"{tower.training}: it would say something else after every step. Freeze it, set vision_tower.last_layers "
            "(with lora) to train its last blocks alone, or leave feature_cache out."
        )
    if tower.precision == "int8":
        raise ConfigError(
            "data.init_args.feature_cache needs a vision tower that says the same of an image whichever others are in "
            "the batch; int8 looks for outliers over the whole batch. Use nf4, bf16 or fp32, or leave it out."
        )
    if family.projected is None:
        raise ConfigError(
            f"Vision features of model type {model_type!r} cannot be cached: its entry in vlm_lit/models/families.py "
            "does not say how they are handed to the model. Leave data.init_args.feature_cache out."
        )


def answers_from_features(family: Family) -> bool:
    """Whether answers can be generated from kept features; with cross-attention only training can."""
    return family.projected != "states"


def tower_identity(base: nn.Module, family: Family) -> dict[str, object]:
    """What features follow from on the model's side: the tower's weights, its settings, the code that runs it."""
    config = json.loads(base.config.to_json_string(use_diff=False), object_hook=_without_place)  # type: ignore[operator, union-attr]
    settings = {name: value for name, value in config.items() if name.startswith("vision") or name == "model_type"}
    digest = hashlib.sha256()
    for root in family.vision_tower:
        for name, tensor in base.get_submodule(root).state_dict().items():
            if _is_weight_of_tower(f"{root}.{name}", family):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    found: dict[str, object] = {} if family.boundary is None else {"boundary": asdict(family.boundary)}
    return {**found, "settings": settings, "weights": digest.hexdigest(), "transformers": version("transformers")}


def _without_place(config: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in config.items() if name != "_name_or_path"}


def _is_weight_of_tower(name: str, family: Family) -> bool:
    # Only what comes before the projector counts, and Qwen's projector lies inside the tower; or before the boundary.
    above = () if family.boundary is None else trained_blocks(family)
    return not name.startswith((*above, *(f"{root}." for root in family.projector)))


def projector_modules(base: nn.Module, family: Family) -> list[nn.Module]:
    """The modules that take the tower's features, in the order in which features are kept."""
    found: list[nn.Module] = []
    modules = dict(base.named_modules())
    for root in family.projector:
        module = modules.get(root)  # None: a parameter that stands alone
        if isinstance(module, nn.ModuleList):
            found += module
        elif module is not None:
            found.append(module)
    return found


# Before training -------------------------------------------------------------------------------------------------


@torch.no_grad()
def tower_features(base: nn.Module, family: Family, inputs: Mapping[str, Tensor]) -> Features:
    """What the tower hands to the projector for one image: [..., D], D its width, for each module of the projector.

    Of a tower that trains above a boundary it is what `boundary_features` makes.

    One at a time: kernels sum in another order for another batch, and what is kept must follow from the image alone,
    whatever was computed beside it, in whichever order and by however many processes.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        inputs: the processor's fields of the image, each [N, ...] for its N tiles or patches.
    """
    if family.boundary is not None:
        return boundary_features(base, family, inputs)
    modules = projector_modules(base, family)
    with caught_inputs(modules) as caught:
        _run_tower(base, family, inputs)
    kept = tuple(caught[module] for module in modules)
    return tuple(_in_order(part, inputs, base, family) for part in kept) if family.projected == "windows" else kept


def _run_tower(base: nn.Module, family: Family, inputs: Mapping[str, Tensor]) -> None:
    """Let the model's own code take an image's fields, each [N, ...], from tower to projector."""
    if family.projected != "states":
        family.backbone_of(base).get_image_features(**inputs)
        return
    (tower,), (projector,) = family.vision_tower, family.projector
    base.get_submodule(projector)(base.get_submodule(tower)(**inputs).last_hidden_state)


def _in_order(features: Tensor, inputs: Mapping[str, Tensor], base: nn.Module, family: Family) -> Tensor:
    """Patches [N, D] as they lie in the image; the tower leaves them window by window."""
    tower: Any = base.get_submodule(family.vision_tower[0])
    unit = tower.spatial_merge_size**2
    windows, _ = get_vision_window_index(
        inputs["image_grid_thw"],
        spatial_merge_size=tower.spatial_merge_size,
        window_size=tower.window_size,
        patch_size=tower.patch_size,
    )
    order = torch.argsort(windows).to(features.device)
    return features.reshape(-1, unit, features.shape[-1])[order].flatten(0, 1)


# In a step -------------------------------------------------------------------------------------------------------


def with_features(
    base: nn.Module, family: Family, inputs: Mapping[str, Tensor], features: Sequence[Features]
) -> dict[str, Any]:
    """The model's keyword arguments with features in place of pixels, projected now.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        inputs: the batch's fields, without pixels; `input_ids` [B, L] among them.
        features: each image's in the order of the rows, [..., D] for each of the projector's modules.
    """
    if family.boundary is not None:
        return {**inputs, "mm_encoder_outputs": {"image": from_boundary(base, family, inputs, features)}}
    modules = projector_modules(base, family)
    parts = [[image[k] for image in features] for k in range(len(modules))]
    if family.projected == "states":
        return _with_states(inputs, modules[0](torch.cat(parts[0])))
    blocks = family.projected in ("images", "tiles")
    outputs = [
        module(torch.cat(part if blocks else [tensor.flatten(0, -2) for tensor in part]))
        for module, part in zip(modules, parts, strict=True)
    ]
    return {**inputs, "mm_encoder_outputs": {"image": _encoder_output(base, family, inputs, features, outputs)}}


def _encoder_output(
    base: nn.Module, family: Family, inputs: Mapping[str, Tensor], features: Sequence[Features], outputs: list[Tensor]
) -> BaseModelOutputWithPooling:
    """As `get_image_features` returns it: `outputs` are the projector's, [..., W], W the language model's width."""
    projected, *deep = outputs
    if family.projected == "images":
        return BaseModelOutputWithPooling(pooler_output=projected)
    if family.projected == "tiles":
        tiles = torch.split(projected, [len(tiles) for tiles, *_ in features])
        pictures = _pictures(base, family, tiles, inputs["image_sizes"])
        return BaseModelOutputWithPooling(pooler_output=pictures)
    found = BaseModelOutputWithPooling(pooler_output=(projected,))
    if family.projected == "deepstack":
        found.deepstack_features = [(output,) for output in deep]
    return found


def _pictures(base: nn.Module, family: Family, tiles: Sequence[Tensor], sizes: Tensor) -> Sequence[Tensor]:
    """Each image's projected vectors [V, D] from its tiles' [tiles, patches, D]; `sizes` are the images' [n, 2]."""
    model = family.backbone_of(base)
    strategy = model.config.vision_feature_select_strategy
    pictures: Sequence[Tensor]
    pictures, _ = model.pack_image_features(
        tiles, sizes, vision_feature_select_strategy=strategy, image_newline=model.image_newline
    )
    return pictures


def _with_states(inputs: Mapping[str, Tensor], projected: Tensor) -> dict[str, Any]:
    """Arguments for a family that looks by cross-attention, from states [..., tiles, patches, W]."""
    rest = {name: value for name, value in inputs.items() if not name.startswith(_ASPECT)}
    return {**rest, "cross_attention_states": projected.flatten(0, -3)}
