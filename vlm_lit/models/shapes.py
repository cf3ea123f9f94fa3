"""Models built from a checkpoint's config as a run would load them, without weights and without memory.

First on the meta device, where layers are replaced by 4-bit and 8-bit ones as loading would. Then as fake tensors,
which know device, dtype and size and hold nothing: unlike meta tensors they choose the attention kernels and autocast
as tensors with contents do, and bitsandbytes' own functions make the quantized layers from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family, family_of
from vlm_lit.models.loading import cast_parts, load_dtype, refuse_tied_head
from vlm_lit.models.parts import PartsSettings, refuse_absent_parts
from vlm_lit.models.quantization import (
    QuantizationSettings,
    check_quantized,
    keep_weights_unpacked,
    quantization_config,
)
from vlm_lit.models.tower_boundary import with_boundary
from vlm_lit.models.tower_chunks import look_in_chunks
from vlm_lit.models.unread_blocks import skip_unread_blocks


def shaped_base(
    config: PretrainedConfig,
    *,
    parts: PartsSettings,
    quantization: QuantizationSettings,
    attention: str | None = None,
) -> tuple[PreTrainedModel, Family]:
    """What `load_base` gives for a checkpoint of this config, on the meta device. See there for the arguments.

    Raises:
        ConfigError: unknown family, or precisions that loading would refuse.
    """
    family = family_of(config.model_type)
    refuse_absent_parts(family, config.model_type, parts)
    refuse_tied_head(config, family, parts)
    bits = quantization_config(parts.precisions, family, quantization)
    options = {} if attention is None else {"attn_implementation": attention}
    try:
        with torch.device("meta"), _without_generation_notes():
            model = family.auto().from_config(config, dtype=load_dtype(parts), **options)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"No model can be made of the config: {str(error).splitlines()[0]}") from error
    if bits is not None:
        replace_with_bnb_linear(model, modules_to_not_convert=bits.llm_int8_skip_modules, quantization_config=bits)
        _as_read(model, load_dtype(parts))
    cast_parts(model, family, parts)
    look_in_chunks(model, family)
    skip_unread_blocks(model, family)
    keep_weights_unpacked(model)
    check_quantized(model, family, parts.precisions)
    return model, with_boundary(model, family, parts)


def _as_read(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the new layers the dtype that weights are read in: 4-bit ones are unpacked to it again."""
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


@contextmanager
def _without_generation_notes() -> Iterator[None]:
    """A model made without a checkpoint has no generation config, which is told as if it were a fault."""
    logger = logging.getLogger("transformers.generation.configuration_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def fake_mode() -> FakeTensorMode:
    """A mode in which tensors have sizes and no contents."""
    # What bitsandbytes keeps for the process, a table of 256 numbers, must be made of real numbers.
    bnb.functional.quantize_4bit(torch.zeros(64), compress_statistics=True, quant_type="nf4")
    return FakeTensorMode(allow_non_fake_inputs=True)


def hollow(model: nn.Module, mode: FakeTensorMode) -> None:
    """Put fake tensors in place of the meta ones, in place, quantized where their layer is. Tied ones stay tied."""
    made: dict[Tensor, nn.Parameter] = {}
    with mode:
        for module in model.modules():
            for name, old in module._parameters.items():
                if old is not None:
                    made[old] = made.get(old) if old in made else _hollow_parameter(module, name, old)  # type: ignore[assignment]
                    module._parameters[name] = made[old]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = _hollow(buffer)


def _hollow(tensor: Tensor) -> Tensor:
    """A tensor [...] of the same shape and dtype, under the mode that is on."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _hollow_parameter(module: nn.Module, name: str, old: nn.Parameter) -> nn.Parameter:
    new = _hollow(old)
    if name == "weight" and isinstance(module, bnb.nn.Linear4bit):
        return _packed(module, old, new)
    if name == "weight" and isinstance(module, bnb.nn.Linear8bitLt):
        return _rounded(module, new)
    return nn.Parameter(new, requires_grad=old.requires_grad)


def _packed(module: bnb.nn.Linear4bit, old: bnb.nn.Params4bit, weight: Tensor) -> nn.Parameter:
    """A weight [O, I] as `Params4bit` packs itself on its way to a device: [O I / 2, 1] bytes and their state."""
    packed, state = bnb.functional.quantize_4bit(
        weight,
        blocksize=old.blocksize,
        compress_statistics=old.compress_statistics,
        quant_type=old.quant_type,
        quant_storage=old.quant_storage,
    )
    parameter = nn.Parameter(packed, requires_grad=False)
    parameter.quant_state = module.quant_state = state  # type: ignore[attr-defined]
    return parameter


def _rounded(module: bnb.nn.Linear8bitLt, weight: Tensor) -> nn.Parameter:
    """A weight [O, I] as `Int8Params` rounds itself on its way to a device; the layer takes it over when it is used."""
    rounded, scales, _ = bnb.functional.int8_vectorwise_quant(weight.half())
    parameter = nn.Parameter(rounded, requires_grad=False)
    parameter.CB = parameter.SCB = None  # type: ignore[attr-defined]
    module.state.CB, module.state.SCB = parameter, scales
    return parameter


@contextmanager
def without_value_checks() -> Iterator[None]:
    """Let transformers' models run on tensors without contents: they count image tokens in `input_ids`."""
    name = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
