"""Quantization of linear layers to 4 or 8 bits, and the check that exactly the asked layers were converted.

Two facts that fail without a word elsewhere are settled here. A bare module name in a skip list matches nothing
under transformers 5 (matching is from the start of the dotted path), and an explicit list replaces the defaults, so
the head must be named. And on CPUs with AVX512-BF16 a single evaluation pass repacks 4-bit weights in place, after
which gradients and merges are silently wrong; the fast path is therefore switched off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState
from torch import nn
from transformers import BitsAndBytesConfig

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import PART_NAMES, Family, PartName, owner_of

Precision = Literal["nf4", "fp4", "int8", "bf16", "fp32"]
ComputeDtype = Literal["bf16", "fp16", "fp32"]

DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FOUR_BITS: Final[tuple[Precision, ...]] = ("nf4", "fp4")
"""The 4-bit data types: NF4, whose values are the quantiles of a normal distribution, and 4-bit floats (E2M1)."""
QUANTIZED: Final[tuple[Precision, ...]] = (*FOUR_BITS, "int8")
"""The precisions that linear layers are rounded to while they are loaded."""


@dataclass(frozen=True, kw_only=True)
class QuantizationSettings:
    """How the parts whose precision is nf4, fp4 or int8 are stored.

    Args:
        double_quant: quantize the block constants of 4-bit weights as well (saves 0.37 bit a parameter).
        compute_dtype: dtype that 4-bit weights are unpacked to for a matrix product.
    """

    double_quant: bool = True
    compute_dtype: ComputeDtype = "bf16"


def quantized_precision(precisions: Mapping[PartName, Precision]) -> Precision | None:
    """The one quantized precision among the parts, or None.

    Raises:
        ConfigError: two of them are asked for; transformers loads a model with one quantization config.
    """
    asked = [precision for precision in QUANTIZED if precision in precisions.values()]
    if len(asked) > 1:
        raise ConfigError(f"Parts ask for {' and '.join(asked)} together; a model is loaded with one. Choose one.")
    return asked[0] if asked else None


def quantization_config(
    precisions: Mapping[PartName, Precision], family: Family, settings: QuantizationSettings
) -> BitsAndBytesConfig | None:
    """The bitsandbytes config that quantizes the asked parts and no other; None if none is asked."""
    precision = quantized_precision(precisions)
    if precision is None:
        return None
    skip = [root for part in PART_NAMES if precisions[part] != precision for root in family.roots(part)]
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=precision,
        bnb_4bit_use_double_quant=settings.double_quant,
        bnb_4bit_compute_dtype=DTYPES[settings.compute_dtype],
        llm_int8_skip_modules=skip,
    )


def packed_state(module: nn.Module) -> QuantState | None:
    """How a 4-bit layer's weight is packed, which a weight that was gathered from ranks has at its layer; None of
    another layer, and of a weight that is not packed yet."""
    return getattr(module.weight, "quant_state", None) or getattr(module, "quant_state", None)


def precision_of(module: nn.Module) -> Precision | None:
    """nf4, fp4 or int8 for a bitsandbytes linear layer, bf16 or fp32 for a plain one, None for anything else."""
    if isinstance(module, bnb.nn.Linear4bit):
        # The weight says the type until it is packed; one that the files lack says none.
        kind: Precision = getattr(packed_state(module) or module.weight, "quant_type", "nf4")
        return kind
    if isinstance(module, bnb.nn.Linear8bitLt):
        return "int8"
    if isinstance(module, nn.Linear):
        return "fp32" if module.weight.dtype == torch.float32 else "bf16"
    return None


def _linear_layers(model: nn.Module, family: Family) -> Iterator[tuple[str, PartName, Precision]]:
    """Name, owning part and stored precision of every linear layer that a part owns."""
    for name, module in model.named_modules():
        owner, precision = owner_of(name, family), precision_of(module)
        if owner is not None and precision is not None:
            yield name, owner, precision


def quantized_modules(model: nn.Module, family: Family) -> dict[PartName, list[str]]:
    """Names of the quantized linear layers, by the part that owns them."""
    found: dict[PartName, list[str]] = {part: [] for part in PART_NAMES}
    for name, owner, precision in _linear_layers(model, family):
        if precision in QUANTIZED:
            found[owner].append(name)
    return found


def check_quantized(model: nn.Module, family: Family, precisions: Mapping[PartName, Precision]) -> None:
    """Compare every linear layer with what was asked for its part.

    Raises:
        ConfigError: a linear layer is quantized though its part is not, or the other way round, or a part that is to
            be quantized has no linear layer.
    """
    wrong, seen = [], set[PartName]()
    for name, owner, found in _linear_layers(model, family):
        seen.add(owner)
        asked = precisions[owner]
        if (asked in QUANTIZED or found in QUANTIZED) and asked != found:
            wrong.append(f"{name} is {found}, asked for {asked}")
    wrong += [
        f"{part} has no linear layer, the one kind that can be {precisions[part]}"
        for part in PART_NAMES
        if precisions[part] in QUANTIZED and part not in seen
    ]
    if wrong:
        listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ConfigError(f"The loaded model is not quantized as its config asks: {listed}.")


def check_shapes(model: nn.Module) -> None:
    """Compare the quantized weights with the layers that hold them: transformers looks at other weights' shapes only.

    Raises:
        ConfigError: the checkpoint's config.json asks for another shape than its weights have.
    """
    for name, module in model.named_modules():
        if not isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            continue
        state = packed_state(module)
        stored = tuple(module.weight.shape if state is None else state.shape)
        if stored != (module.out_features, module.in_features):
            raise ConfigError(
                f"{name} is {module.out_features} x {module.in_features} by the checkpoint's config.json, and its "
                f"weights are {' x '.join(map(str, stored))}. Fetch the checkpoint's files again."
            )


def keep_weights_unpacked(model: nn.Module) -> None:
    """Switch off the AVX512-BF16 path of bitsandbytes that repacks 4-bit weights during evaluation."""
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def count_precisions(model: nn.Module, family: Family) -> dict[PartName, Counter[str]]:
    """For each part, how many of its linear layers are stored in each precision."""
    counts: dict[PartName, Counter[str]] = {part: Counter() for part in PART_NAMES}
    for _, owner, found in _linear_layers(model, family):
        counts[owner][found] += 1
    return counts
