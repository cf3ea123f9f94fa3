"""Boundary in a vision tower: LoRA on its last blocks, and what the frozen blocks below them say kept on disk.

In a step the model's own code runs the tower with ones for pixels; the blocks below the boundary pass on what they are
given, and the last of them hands over what is kept. What the patches' embedding makes of the ones is never read.

P = patches of an image, all its tiles together, W = the tower's width, D = the language model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlm_lit.errors import ConfigError
from vlm_lit.models.caught_inputs import caught_inputs
from vlm_lit.models.families import Boundary, Family, names_of
from vlm_lit.models.parts import PartsSettings

_PIXELS: Final = "pixel_values"
_MASK: Final = "pixel_attention_mask"
_JOINED: Final = ("pixtral",)  # towers whose patches of all images stand in one row


def with_boundary(base: nn.Module, family: Family, parts: PartsSettings) -> Family:
    """The facts of a model whose tower trains by its last blocks, with the place of the first of them.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        parts: what is to be trained.

    Raises:
        ConfigError: the tower has fewer blocks, or is no single stack of them.
    """
    count = parts.vision_tower.last_layers
    if count is None:
        return family
    assert isinstance(base.config, PretrainedConfig)
    if family.projected in (None, "states"):
        raise ConfigError(
            f"parts.vision_tower.last_layers is {count}, but the tower of model type {base.config.model_type!r} is not "
            "one stack of blocks. Set it to null: LoRA then goes on all of them."
        )
    path, there = tower_blocks(base, family)
    used, read = read_blocks(base.config, there)
    if not 0 < count < used:
        raise ConfigError(
            f"parts.vision_tower.last_layers is {count}, and {used} blocks of this checkpoint's tower are used. Set it "
            f"to a number from 1 to {used - 1}, or to null for all of them."
        )
    first = used - count
    below = tuple(sorted({behind - 1 for behind in read if behind < first}))
    return replace(family, boundary=Boundary(blocks=path, first=first, used=used, read=below))


def tower_blocks(base: nn.Module, family: Family) -> tuple[str, int]:
    """The path of the tower's list of blocks, and how many there are: the longest list of alike modules in it."""
    modules = dict(base.named_modules())
    tower = names_of("vision_tower", modules, family)
    lists = [(name, modules[name]) for name in tower if isinstance(modules[name], nn.ModuleList)]
    # By name: a class of ours may stand before that of some.
    alike = [(len(found), name) for name, found in lists if len({str(type(block)) for block in found}) == 1]
    assert alike, "a tower without blocks"
    count, path = max(alike)
    return path, count


def read_blocks(config: PretrainedConfig, there: int) -> tuple[int, list[int]]:
    """How many blocks are used, and behind how many of them the tower's words are read."""
    asked = getattr(config, "vision_feature_layer", None)
    layers = [there] if asked is None else [asked] if isinstance(asked, int) else list(asked)
    behind = [layer if layer >= 0 else there + 1 + layer for layer in layers]
    deep = getattr(config.vision_config, "deepstack_visual_indexes", None) or []
    return max(behind), [*behind, *(index + 1 for index in deep)]


def trained_blocks(family: Family) -> tuple[str, ...]:
    """Prefixes of the names of what trains of a tower; all of a family without a boundary."""
    boundary = family.boundary
    if boundary is None:
        return ("",)
    return tuple(f"{boundary.blocks}.{index}." for index in range(boundary.first, boundary.used))


# Before training -------------------------------------------------------------------------------------------------


@torch.no_grad()
def boundary_features(base: nn.Module, family: Family, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """What the frozen blocks say of one image: the states of the last of them and of those that are read besides, each
    [..., W]; the pixels' shape; the mask of padded pixels, where there is one.

    Args:
        base: the model without its PEFT shell.
        family: its facts, with the boundary.
        inputs: the processor's fields of the image, each [N, ...] for its N tiles or patches.
    """
    assert family.boundary is not None
    blocks: Any = base.get_submodule(family.boundary.blocks)
    readers = [blocks[number + 1] for number in _kept_blocks(family.boundary)]
    with caught_inputs(readers) as caught:
        family.backbone_of(base).get_image_features(**inputs)
    mask = [inputs[_MASK].bool()] if _MASK in inputs else []
    return (*(caught[reader] for reader in readers), torch.tensor(inputs[_PIXELS].shape), *mask)


def _kept_blocks(boundary: Boundary) -> tuple[int, ...]:
    """Numbers of the frozen blocks whose states are kept."""
    return (boundary.first - 1, *boundary.read)


# In a step -------------------------------------------------------------------------------------------------------


def from_boundary(
    base: nn.Module, family: Family, inputs: Mapping[str, Tensor], features: Sequence[tuple[Tensor, ...]]
) -> BaseModelOutputWithPooling:
    """What `get_image_features` gives for a batch's images, their frozen blocks not run.

    Args:
        base: the model without its PEFT shell.
        family: its facts, with the boundary.
        inputs: the batch's fields, without pixels.
        features: each image's in the order of the rows, as `boundary_features` made them.
    """
    assert family.boundary is not None
    model, kept = family.backbone_of(base), len(_kept_blocks(family.boundary))
    names = [name for name in signature(model.get_image_features).parameters if name in inputs]
    outputs = []
    for group in _groups(base, [image[kept] for image in features]):
        images = [features[i] for i in group]
        fields = {name: inputs[name][group[0] : group[-1] + 1] for name in names}
        states = [torch.cat([image[k] for image in images]) for k in range(kept)]
        shapes = [image[kept].tolist() for image in images]
        size = sum(shape[0] for shape in shapes), *shapes[0][1:]
        fields[_PIXELS] = torch.ones(size, dtype=_dtype(base, family), device=states[0].device)
        if len(images[0]) > kept + 1:
            fields[_MASK] = torch.cat([image[kept + 1] for image in images])
        with _handed_over(base, family, states):
            outputs.append(model.get_image_features(**fields))
    return outputs[0] if len(outputs) == 1 else _joined(outputs)


def _groups(base: nn.Module, shapes: Sequence[Tensor]) -> Iterator[list[int]]:
    """Numbers of neighbouring images that one call takes, by the shapes of their pixels."""
    assert isinstance(base.config, PretrainedConfig)
    if base.config.vision_config.model_type in _JOINED:
        yield from ([i] for i in range(len(shapes)))
        return
    alike: Callable[[int], object] = lambda i: shapes[i].tolist()[1:]  # noqa: E731
    for _, group in groupby(range(len(shapes)), alike):
        yield list(group)


def _dtype(base: nn.Module, family: Family) -> torch.dtype:
    return next(p.dtype for p in base.get_submodule(family.vision_tower[0]).parameters() if p.is_floating_point())


@contextmanager
def _handed_over(base: nn.Module, family: Family, states: Sequence[Tensor]) -> Iterator[None]:
    """The frozen blocks are not run: those that are read give their states [..., W], the others what they get."""
    assert family.boundary is not None
    blocks: Any = base.get_submodule(family.boundary.blocks)
    below = blocks[: family.boundary.first]
    said = dict(zip(_kept_blocks(family.boundary), states, strict=True))
    for number, block in enumerate(below):
        block.forward = _giving(said.get(number))
    try:
        yield
    finally:
        for block in below:
            del block.forward


def _giving(states: Tensor | None) -> Callable[..., Tensor]:
    """A forward pass that gives these states, or what it gets."""
    return lambda hidden_states, *_, **__: hidden_states if states is None else states


def _joined(outputs: Sequence[BaseModelOutputWithPooling]) -> BaseModelOutputWithPooling:
    """The outputs of several calls as one call would give them."""
    found = BaseModelOutputWithPooling(pooler_output=_cat([output.pooler_output for output in outputs]))
    deep = [getattr(output, "deepstack_features", None) for output in outputs]
    if deep[0] is not None:
        found.deepstack_features = [_cat(level) for level in zip(*deep, strict=True)]
    return found


def _cat(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - tensors or lists of them, as the family has it
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [tensor for part in parts for tensor in part]
