"""Tests of recomputed activations: in the parts that were named, and nowhere else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from tests.support import family_cases as cases
from vlm_lit.models.families import FAMILIES, LAYERED, LayeredPart
from vlm_lit.models.parts import PartSettings
from vlm_lit.training.supervised import SupervisedModule


def runs_of_layers(module: SupervisedModule, family: str) -> dict[LayeredPart, int]:
    """How often a linear layer of each part is run in a forward and backward pass."""
    seen: Counter[LayeredPart] = Counter()
    facts = FAMILIES[family]
    for part, root in zip(LAYERED, (facts.vision_tower[0], facts.decoder_layers), strict=True):
        named = module.base.get_submodule(root).named_modules()
        # Of the first layer: LLaVA takes the features of the last but one, so nothing flows back through the last.
        kinds = (nn.Linear, LoraLayer)  # a 4-bit layer and its update may be one function
        inner = next(m for name, m in named if isinstance(m, kinds) and "0" in name.split("."))
        inner.register_forward_hook(lambda *_, part=part: seen.update([part]))
    return seen


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "smolvlm"])
@pytest.mark.parametrize("asked", [[], ["vision_tower"], ["language_model"], ["vision_tower", "language_model"]])
def test_the_named_parts_alone_are_run_twice(family: str, asked: list[LayeredPart], folders: dict[str, Path]) -> None:
    settings = cases.parts(vision_tower=PartSettings(precision="fp32", training="lora"))
    module = cases.module(folders[family], settings, checkpointing=asked)
    batch = cases.encode(cases.encoder(folders[family]), [cases.conversation(1, 1)])
    module.train()
    seen = runs_of_layers(module, family)
    module.loss(batch).backward()  # type: ignore[no-untyped-call]
    assert seen == {part: 2 if part in asked else 1 for part in LAYERED}


def test_gradients_are_the_same_whichever_part_is_run_twice(folders: dict[str, Path]) -> None:
    settings = cases.parts(vision_tower=PartSettings(precision="fp32", training="lora"))
    batch = cases.encode(cases.encoder(folders["llava"]), [cases.conversation(1, 1)])
    asked: list[list[LayeredPart]] = [[], ["vision_tower"], ["language_model"]]
    plain, *others = (cases.gradients(cases.module(folders["llava"], settings, checkpointing=a), batch) for a in asked)
    assert any("vision" in name and grad is not None for name, grad in plain.items())
    for found in others:
        for name, grad in plain.items():
            other = found[name]
            assert (grad is None) == (other is None)
            assert grad is None or other is None or torch.equal(grad, other)
