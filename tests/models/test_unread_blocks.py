"""Tests of a vision tower's blocks that nobody reads: nothing computes in them, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

from tests.support import family_cases as cases
from vlm_lit.models import unread_blocks
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.unread_blocks import UnreadBlock


def with_layer(folder: Path, layer: int, to: Path) -> Path:
    """A copy of a checkpoint whose projector reads another layer of the tower."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"vision_feature_layer": layer}))
    return to


def unread(base: nn.Module) -> list[int]:
    """Which blocks of the tower do nothing."""
    blocks = base.get_submodule("model.vision_tower.encoder.layers")
    return [number for number, block in enumerate(blocks.children()) if isinstance(block, UnreadBlock)]


@pytest.mark.parametrize(("layer", "expected"), [(-1, []), (-2, [2]), (-3, [1, 2]), (1, [1, 2]), (3, [])])
def test_which_blocks_do_nothing(layer: int, expected: list[int], tiny_llava: Path, tmp_path: Path) -> None:
    assert unread(cases.module(with_layer(tiny_llava, layer, tmp_path / "base")).base) == expected


@pytest.mark.parametrize("training", ["frozen", "lora", "full"])
def test_losses_and_gradients_are_what_they_were(training: str, tiny_llava: Path) -> None:
    tower = PartSettings(training=training, precision="fp32")  # type: ignore[arg-type]
    module = cases.module(tiny_llava, cases.parts(vision_tower=tower))
    module.train()
    computed = []
    for block in module.base.modules():
        if isinstance(block, UnreadBlock):
            for part in block.children():
                part.register_forward_hook(lambda part, *_: computed.append(part))
    batch = cases.encode(cases.encoder(tiny_llava), [cases.conversation(2, 2)])
    found = cases.gradients(module, batch)
    assert not computed
    with patch.object(unread_blocks, "put_aside", lambda: True):
        expected = cases.gradients(module, batch)
    assert computed
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        other = found[name]
        assert (grad is None) == (other is None), name
        assert grad is None or other is None or torch.equal(grad, other), name
