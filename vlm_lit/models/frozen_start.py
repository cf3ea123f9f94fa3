"""Frozen start of an adapter: what A and B begin with, subtracted from the update for as long as it trains.

PiSSA (Meng et al. 2024, arXiv 2404.02948) begins A and B at the largest singular values of a weight W and trains
W - scale * B0 A0 + scale * B A. PEFT takes scale * B0 A0 out of the base's own weights: a 16-bit base is rounded anew,
a 4-bit one has to be unpacked and packed again, and trained matrices on an untouched base are wrong without a word.
Here the base keeps its weights, and -B0 and A0 are a second pair of LoRA matrices in PEFT's own layers, as buffers that
nothing trains. The gradients are PiSSA's, and the start is the base, in any precision.

Saved, both pairs are one adapter of twice the rank, B' = [B, -B0] and A' = [A; A0], as by PEFT's own conversion of a
PiSSA adapter: a plain adapter of the base as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TRAINED: Final = "default"
"""PEFT's name of the pair that trains."""
START: Final = "start"
"""The frozen pair's name in PEFT."""
_SIDES: Final = {"A": 0, "B": 1}
"""The dimension of a matrix's rank."""


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """The layers that have a low-rank update, by name."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def add_start(model: PeftModel) -> None:
    """Give each low-rank update a frozen pair beside it, zero until it is set."""
    config = copy(model.peft_config[TRAINED])
    config.modules_to_save, config.lora_dropout = None, 0.0
    model.add_adapter(START, config)
    for _, layer in lora_layers(model):
        for side in _SIDES:
            linear = getattr(layer, f"lora_{side}")[START]
            zeros = torch.zeros_like(linear.weight, dtype=torch.float32)
            del linear.weight  # a buffer is never trained, whatever PEFT switches on again
            linear.register_buffer("weight", zeros)
        layer.set_adapter([TRAINED, START])


def start_state(model: nn.Module) -> dict[str, Tensor]:
    """The frozen pairs' matrices [R, I] and [O, R] by name; none where the update begins at zero."""
    return {name: buffer for name, buffer in model.named_buffers() if f".{START}.weight" in name and "lora_" in name}


def load_start(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put frozen pairs back that `start_state` gave."""
    own = start_state(model)
    assert own.keys() == state.keys(), "the identity of the run says whether there is one"
    for name, matrix in own.items():
        matrix.copy_(state[name])


# As one plain adapter ------------------------------------------------------------------------------------------------


def join_saved(model: nn.Module, weights: Path, settings: Path) -> None:
    """Add the frozen pairs to a saved adapter of the trained ones; nothing is done where there are none."""
    start = _by_saved_name(model)
    if not start:
        return
    saved = load_file(weights)
    for name, matrix in start.items():
        saved[name] = torch.cat([saved[name], matrix.cpu()], dim=_rank_dimension(name))
    save_file(saved, weights, metadata={"format": "pt"})
    config = json.loads(settings.read_text(encoding="utf-8"))
    growth = growth_of_alpha(config["use_rslora"])
    config |= {"r": 2 * config["r"], "lora_alpha": growth * config["lora_alpha"]}
    config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    config["alpha_pattern"] = {name: growth * alpha for name, alpha in config["alpha_pattern"].items()}
    settings.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def growth_of_alpha(rank_stabilised: bool) -> float:
    """What alpha is multiplied by where two pairs are saved as one, so that alpha / rank, or / sqrt(rank), stays."""
    return math.sqrt(2) if rank_stabilised else 2


def joined_shape(model: nn.Module, name: str, shape: torch.Size) -> torch.Size:
    """The shape that a trained matrix called `name` has in a saved adapter."""
    if name not in _by_saved_name(model):
        return shape
    dimension = _rank_dimension(name)
    return torch.Size(2 * size if place == dimension else size for place, size in enumerate(shape))


def take_start(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trained pairs of a saved adapter; the frozen ones beside them are put into the model."""
    trained = dict(state)
    for name, matrix in _by_saved_name(model).items():
        trained[name], start = (half.contiguous() for half in state[name].chunk(2, dim=_rank_dimension(name)))
        matrix.copy_(start)
    return trained


def _by_saved_name(model: nn.Module) -> dict[str, Tensor]:
    """The frozen pairs' matrices by the name that the trained ones have in a saved adapter."""
    return {name.replace(f".{START}.", "."): matrix for name, matrix in start_state(model).items()}


def _rank_dimension(name: str) -> int:
    return _SIDES["A" if ".lora_A." in name else "B"]
