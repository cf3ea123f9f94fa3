"""Starts of low-rank updates that are computed from the base's weights: PiSSA's and LoftQ's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import bitsandbytes as bnb
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family, owner_of
from vlm_lit.models.frozen_start import START, TRAINED, lora_layers
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import FOUR_BITS, Precision

_BLOCK: Final = 64  # of bitsandbytes' 4-bit weights, as transformers makes them


def check_start(lora: LoraSettings, parts: PartsSettings) -> None:
    """Refuse options of `lora` that mean nothing for these parts.

    Raises:
        ConfigError: naming the settings.
    """
    adapted = parts.trained_as("lora")
    if not adapted:
        for name in ("start", "b_lr_ratio", "dora", "ranks", "alphas", "scaling"):
            if name in lora.stated():
                raise ConfigError(
                    f"lora.{name} is {getattr(lora, name)}, and no part is trained by LoRA. Set a part's training to "
                    f"lora, or leave lora.{name} out."
                )
    for part in adapted if lora.dora else ():
        if parts.of(part).precision == "int8":
            raise ConfigError(
                f"lora.dora needs a layer's weights in every pass, and bitsandbytes cannot unpack those of "
                f"parts.{part}, in int8, once it computes with them. Set its precision to nf4, fp4, bf16 or fp32."
            )
    if lora.start != "loftq":
        return
    for part in adapted:
        precision = parts.of(part).precision
        if precision not in FOUR_BITS:
            raise ConfigError(
                f"lora.start is loftq, which begins with what 4-bit weights have lost, and parts.{part} is trained by "
                f"LoRA in {precision}. Set its precision to nf4 or fp4, or lora.start to random."
            )


def start_at_principal(model: PeftModel) -> None:
    """PiSSA's start: A and B at the largest singular values of each weight, and what they begin with subtracted.

    Raises:
        ConfigError: a layer's rank is larger than its weight's.
    """
    for name, layer in lora_layers(model):
        a_RI, b_OR = _factors(name, layer, dequantize_module_weight(layer.get_base_layer()))
        for pair, sign in ((TRAINED, 1), (START, -1)):
            layer.lora_A[pair].weight.data.copy_(a_RI)
            layer.lora_B[pair].weight.data.copy_(sign * b_OR)


def start_at_loss(model: PeftModel, original: Callable[[str], Tensor]) -> None:
    """LoftQ's start: A and B at the largest singular values of what each weight lost by its quantization.

    One iteration: the packed weights stay as they are. PEFT leaves the update's scale out, which is right at alpha =
    rank alone; here scale * B A is the loss.

    Args:
        model: the adapted model, its layers in 4 bits.
        original: the weight [O, I] of a layer by its name in the base, as it was before quantization.

    Raises:
        ConfigError: a layer's rank is larger than its weight's.
    """
    for name, layer in lora_layers(model):
        stored = dequantize_module_weight(layer.get_base_layer())
        lost = original(name.removeprefix("base_model.model.")).to(stored.device).float() - stored.float()
        a_RI, b_OR = _factors(name, layer, lost)
        layer.lora_A[TRAINED].weight.data.copy_(a_RI)
        layer.lora_B[TRAINED].weight.data.copy_(b_OR)


def _factors(name: str, layer: LoraLayer, weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """A [R, I] and B [O, R] with scale * B A nearest to a weight, its singular values shared out evenly."""
    rank, scale = layer.r[TRAINED], layer.scaling[TRAINED]
    if rank > min(weight_OI.shape):
        raise ConfigError(
            f"lora.start computes the {rank} largest singular values of {name}, which has {min(weight_OI.shape)}. "
            "Lower lora.rank, or give that layer another in lora.ranks."
        )
    u, s, vh = torch.linalg.svd(weight_OI.float(), full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


def as_stored(weight: Tensor, precision: Precision, *, double_quant: bool, dtype: torch.dtype) -> Tensor:
    """A weight [O, I] as a layer in 4 bits holds it: quantized from `dtype`, and unpacked again."""
    packed, state = bnb.functional.quantize_4bit(
        weight.to(dtype).contiguous(), blocksize=_BLOCK, compress_statistics=double_quant, quant_type=precision
    )
    unpacked: Tensor = bnb.functional.dequantize_4bit(packed, state).to(weight.dtype)
    return unpacked


def round_adapted(
    model: nn.Module, family: Family, parts: PartsSettings, *, double_quant: bool, dtype: torch.dtype
) -> None:
    """Give layers that have an update, and were trained in 4 bits, the weights that they had in training.

    A LoftQ update makes up for what these have lost; on the base's own weights it would be added to nothing lost.
    """
    for name, layer in lora_layers(model):
        part = owner_of(name.removeprefix("base_model.model."), family)
        precision = None if part is None else parts.of(part).precision
        if precision in FOUR_BITS:
            weight = layer.get_base_layer().weight
            weight.data = as_stored(weight.data, precision, double_quant=double_quant, dtype=dtype)
