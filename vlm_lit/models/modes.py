"""Training and evaluation mode of a model's modules, by what of it is trained."""

from __future__ import annotations

from torch import nn

from vlm_lit.models.adapters import modules_in_full
from vlm_lit.models.families import Family, owner_of
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.tower_boundary import trained_blocks


def set_modes(base: nn.Module, family: Family, parts: PartsSettings, mode: bool) -> None:
    """Training mode, if asked for, where something is trained; what is frozen is left without dropout.

    Args:
        base: the adapted model without its PEFT shell.
        family: its facts.
        parts: what is trained of it.
        mode: False for evaluation mode everywhere.
    """
    last = parts.language_model.last_layers
    trained = modules_in_full(base, "language_model", family, last_layers=last) if last is not None else []
    above, of_tower = tuple(f"{name}." for name in trained), trained_blocks(family)
    # By name, not by root: a trained part may lie inside a frozen one.
    for name, module in base.named_modules():
        owner = owner_of(name, family)
        if owner is None:
            continue
        moves = parts.of(owner).training != "frozen"
        if owner == "language_model" and last is not None:
            moves = f"{name}.".startswith(above)
        if owner == "vision_tower":
            moves = moves and f"{name}.".startswith(of_tower)
        module.training = mode and moves
