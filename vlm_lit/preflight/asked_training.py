"""Training that a parts table asks for, parameter by parameter, told from names alone.

It does not look at `requires_grad`, so that it can be held against what a step does.
"""

from __future__ import annotations

import re

from vlm_lit.models.families import owner_of
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.tower_boundary import trained_blocks
from vlm_lit.preflight.held_model import HeldModel


def is_trained(name: str, held: HeldModel, parts: PartsSettings) -> bool:
    """Whether a parameter is to be trained.

    Args:
        name: its name in the model, starting with its part's path.
        held: the model.
        parts: what is asked for.
    """
    part = owner_of(name, held.family)
    if part is None or ".original_module." in name:
        return False  # of no part; or the frozen original that PEFT keeps beside a copy that is trained
    asked = parts.of(part)
    if part == "vision_tower" and held.family.boundary is not None:
        return ".lora_" in name and name.startswith(trained_blocks(held.family))
    if asked.training != "full" or asked.last_layers is None:
        return asked.training == "full" or (asked.training == "lora" and ".lora_" in name)
    layer = re.match(re.escape(held.family.decoder_layers) + r"\.(\d+)\.", name)
    if layer is None:
        return any(name.startswith(f"{root}.") for root in held.family.above_layers)
    layers = held.base.get_submodule(held.family.decoder_layers)
    return int(layer[1]) >= len(layers) - asked.last_layers
