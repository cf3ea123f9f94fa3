"""A run's module with a model without weights, and the rows that such a model can be given."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig

from vlm_lit.errors import ConfigError
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.shapes import hollow, shaped_base
from vlm_lit.models.stored_bytes import constants_of
from vlm_lit.training.module import VisionLanguageModule

Made = TypeVar("Made", bound=VisionLanguageModule)


def hollow_module(
    module: Made,
    config: PretrainedConfig,
    parts: PartsSettings,
    mode: FakeTensorMode,
) -> Made:
    """A copy of a module whose model is not loaded, with other parts, adapted in shape and ready to train.

    Its gradients are there already, as they are from the second micro-batch of a run on.

    Raises:
        ConfigError: what `fit` would refuse of these parts; or DoRA, whose norms are of weights with contents.
    """
    assert module.model is None
    if module.lora.dora:
        raise ConfigError(
            "lora.dora is true, and a budget is counted on weights without contents, of which PEFT's DoRA makes no "
            "norms. Count with --model.init_args.lora.dora=false: DoRA has a few magnitudes more, and in each layer "
            "the weight unpacked, once more beside it and in its norm."
        )
    made = copy.copy(module)
    made.trainer = module.trainer  # which no copy takes along
    made._modules = dict(module._modules)
    made.parts = parts
    made.check_precision()
    base, family = shaped_base(config, parts=parts, quantization=module.quantization, attention=module.attention)
    hollow(made.adopt(base, family), mode)
    with mode:
        for parameter in made.trainable_parameters():
            parameter.grad = torch.empty_like(parameter)
    return made


def resident(module: VisionLanguageModule) -> Iterator[Tensor]:
    """Every tensor that a step finds there when it begins, optimizer states aside."""
    gradients = (p.grad for p in module.trainable_parameters() if p.grad is not None)
    constants = (tensor for layer in module.modules() for tensor in constants_of(layer))
    return chain(module.parameters(), module.buffers(), constants, gradients)


def sizes(module: VisionLanguageModule, config: PretrainedConfig) -> Iterator[int]:
    """Whatever numbers a tensor's size can be a product of, rows aside."""
    yield from (tensor.numel() for tensor in resident(module))
    # The positions of thousands of answers would leave no number that divides none of them.
    yield from _whole_numbers({name: value for name, value in config.to_dict().items() if name != "label2id"})


def _whole_numbers(settings: object) -> Iterator[int]:
    if isinstance(settings, dict):
        for value in settings.values():
            yield from _whole_numbers(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _whole_numbers(value)
    elif isinstance(settings, int) and not isinstance(settings, bool):
        yield settings


def attention_of(base: nn.Module) -> str:
    """The attention implementation of a model's layers for words."""
    found: str = base.config.get_text_config()._attn_implementation  # type: ignore[operator, union-attr]
    return found


def text_inputs(module: VisionLanguageModule, rows: int, length: int) -> dict[str, Tensor]:
    """Rows of words, with a mask of who sees whom as rows of different lengths have: SDPA copies it in each layer.

    That of packed rows is shared by all layers and takes less.
    """
    assert module.family is not None
    added = attention_of(module.base) == "eager"
    seen = torch.empty(rows, 1, length, length, dtype=torch.float32 if added else torch.bool)
    places = (4, rows, length) if module.family.positions == "mrope" else (rows, length)
    return {
        "input_ids": torch.empty(rows, length, dtype=torch.long),
        "attention_mask": seen,
        "position_ids": torch.empty(places, dtype=torch.long),
    }


def image_inputs(base: nn.Module, images: int) -> dict[str, Tensor]:
    """Pictures of the size that the config names."""
    config: Any = base.config
    side = config.vision_config.image_size
    height, width = (side, side) if isinstance(side, int) else side
    channels = getattr(config.vision_config, "num_channels", 3)
    return {"pixel_values": torch.empty(images, channels, height, width)}
