"""How do LoRA and fully trained parts get onto a loaded model, on the asked parts and nowhere else?

Leaf names alone are not safe (`q_proj` also stands in CLIP, SigLIP and Pixtral towers), so targets are part x leaf,
as one regular expression that must match the whole dotted name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from vlm_lit.models.families import Family, PartName, owner_of
from vlm_lit.models.parts import PartsSettings
from vlm_lit.schema import ConfigError


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The low-rank update W + alpha / rank * B A.

    Args:
        rank: inner dimension of the update.
        alpha: numerator of its scale.
        dropout: probability with which an input of the update is zeroed in training.
        targets: which layers of a decoder layer get one: attention, mlp, or both.
        leaves: names of the linear layers to adapt instead, for example [q_proj, v_proj]; null takes all of `targets`.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[Literal["attention", "mlp"]] = field(default_factory=lambda: ["attention"])
    leaves: list[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"lora.rank is {self.rank}; it must be at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"lora.dropout is {self.dropout}; it must lie in [0, 1).")
        if not self.targets and not self.leaves:
            raise ConfigError("lora.targets is empty; name attention, mlp or both, or name layers in lora.leaves.")


def _decoder_leaves(family: Family, lora: LoraSettings) -> list[str]:
    known = [leaf for target in lora.targets for leaf in getattr(family, target)]
    if lora.leaves is None:
        return known
    every = family.attention + family.mlp
    for leaf in lora.leaves:
        if leaf not in every:
            raise ConfigError(f"lora.leaves names {leaf!r}; this family's decoder layers have {', '.join(every)}.")
    return lora.leaves


def _linear_leaves(model: nn.Module, part: PartName, family: Family) -> list[str]:
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and owner_of(name, family) == part and name != family.path(part)
    }
    return sorted(found)


def _pattern(model: nn.Module, part: PartName, family: Family, lora: LoraSettings) -> str:
    if part == "language_model":
        leaves = "|".join(_decoder_leaves(family, lora))
        return rf"{re.escape(family.decoder_layers)}\.\d+\.(?:\w+\.)*(?:{leaves})"
    leaves = "|".join(_linear_leaves(model, part, family))
    if not leaves:
        raise ConfigError(f"{part}.training is lora, but {part} has no linear layer inside; use full or frozen.")
    return rf"{re.escape(family.path(part))}\.(?:\w+\.)*(?:{leaves})"


def target_pattern(model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings) -> str | None:
    """Regular expression for the full names of the layers LoRA goes on; None where no part asks for LoRA."""
    patterns = [_pattern(model, part, family, lora) for part in parts.trained_as("lora")]
    return "|".join(f"(?:{pattern})" for pattern in patterns) or None


def lora_config(model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings) -> LoraConfig:
    """The PEFT config: LoRA on the asked parts, the fully trained parts as modules to save.

    A part that merely had `requires_grad` set would train as well and be absent from the saved adapter.
    """
    full = [family.path(part) for part in parts.trained_as("full")]
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        target_modules=target_pattern(model, family, parts, lora) or DUMMY_TARGET_MODULES,
        modules_to_save=full or None,
    )


def adapt(model: nn.Module, family: Family, parts: PartsSettings, lora: LoraSettings, *, seed: int) -> PeftModel:
    """Freeze `model`, then put on it what `parts` asks to train. Fully trained weights become float32 masters.

    The LoRA matrices are drawn from `seed` alone, whatever random numbers were used before.
    """
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora_config(model, family, parts, lora))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted
