"""Bytes that an adapted model holds while nothing runs, by part and purpose.

Counted tensor by tensor, so it is the same sum for a model in memory and for one of shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import bitsandbytes as bnb
import torch
from torch import Tensor, nn

from vlm_lit.models.families import Family, PartName, owner_of
from vlm_lit.models.parts import parameter_count
from vlm_lit.models.quantization import QUANTIZED, precision_of

Purpose = Literal["quantized", "constants", "frozen", "trained"]


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What one part holds for one purpose.

    Args:
        part: None for what no part owns.
        purpose: `quantized` are packed 4-bit or 8-bit weights; `constants` turn them back into numbers (block maxima,
            their own constants, tables, row scales); `frozen` are all others that no optimizer changes: the originals
            of fully trained parts among them, which PEFT keeps beside the copies that are trained, and buffers;
            `trained` are LoRA matrices and those copies.
        stored: nf4, fp4, int8, or a dtype's name.
        count: how many weights or numbers they stand for.
        size: bytes.
    """

    part: PartName | None
    purpose: Purpose
    stored: str
    count: int
    size: int


def holdings(model: nn.Module, family: Family) -> list[Holding]:
    """All that a model (without the PEFT shell) holds, by part, purpose and storage; shared tensors count once."""
    sums: dict[tuple[PartName | None, Purpose, str], tuple[int, int]] = {}
    for name, purpose, stored, count, size in _tensors(model):
        key = (owner_of(name, family), purpose, stored)
        before = sums.get(key, (0, 0))
        sums[key] = (before[0] + count, before[1] + size)
    return [Holding(part=k[0], purpose=k[1], stored=k[2], count=c, size=s) for k, (c, s) in sums.items()]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Purpose, str, int, int]]:
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        layer, _, leaf = name.rpartition(".")
        bits = _bits(modules[layer]) if leaf == "weight" else None
        purpose: Purpose = "quantized" if bits else "trained" if parameter.requires_grad else "frozen"
        yield name, purpose, bits or _word(parameter.dtype), parameter_count(parameter), _size(parameter)
    for name, buffer in model.named_buffers():
        yield name, "frozen", _word(buffer.dtype), buffer.numel(), _size(buffer)
    for name, module in modules.items():
        for constant in constants_of(module):
            yield name, "constants", _word(constant.dtype), constant.numel(), _size(constant)


def _bits(module: nn.Module) -> str | None:
    precision = precision_of(module)
    return precision if precision in QUANTIZED else None


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers, of any shape [...]."""
    return tensor.numel() * tensor.element_size()


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors of any shape [...], one that is named twice counted once."""
    return sum(map(_size, {id(tensor): tensor for tensor in tensors}.values()))


def constants_of(module: nn.Module) -> Iterator[Tensor]:
    """The tensors beside a layer's quantized weight that turn it back into numbers."""
    if isinstance(module, bnb.nn.Linear4bit):
        state = module.weight.quant_state
        yield from (state.absmax, state.code)
        if state.nested:
            yield from (state.offset, state.state2.absmax, state.state2.code)
    elif isinstance(module, bnb.nn.Linear8bitLt):
        # A layer takes the scales over from its weight in its first pass.
        yield module.state.SCB if module.state.SCB is not None else module.weight.SCB
