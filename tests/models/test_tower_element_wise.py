"""Tests of a vision tower's element-wise work: patches in order, GELU within a product, the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import ACT2FN

from tests.support import family_cases as cases
from tests.support.family_cases import TINY
from vlm_lit.models import frozen_products, tower_element_wise
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.parts import PartSettings
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.models.tower_element_wise import InOrder, JoinedGelu, order_tower


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operators run, and whether norms are given arrays in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []
        self.normed_in_order: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        self.seen.append(f"{name} {args[3]}" if "_linear_pointwise" in name else name)
        if "native_layer_norm.default" in name:
            self.normed_in_order.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def faster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this processor for one on which oneDNN is faster, with products of any size."""
    monkeypatch.setattr(frozen_products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(frozen_products, "FEWEST_WEIGHTS", 1)
    for name in frozen_products._CACHES:
        monkeypatch.setenv(name, "64")


def tower(name: str, folders: dict[str, Path], training: str = "frozen") -> tuple[Any, Any, Tensor]:
    """The module of a tiny model, its tower and the tower's input."""
    parts = cases.parts(vision_tower=PartSettings(training=training, precision="fp32"))  # type: ignore[arg-type]
    module = cases.module(folders[name], parts)
    batch = cases.encode(cases.encoder(folders[name]), [cases.conversation(1, 1)])
    assert module.family is not None
    (root,) = module.family.vision_tower
    pixels = batch.inputs["pixel_values"]
    return module, module.base.get_submodule(root), pixels.flatten(0, 1) if pixels.dim() == 5 else pixels


@pytest.mark.parametrize("name", ["smolvlm", "gemma3", "paligemma"])
def test_norms_are_given_patches_in_order_and_say_the_same(name: str, folders: dict[str, Path]) -> None:
    _, seen, pixels = tower(name, folders)
    with torch.no_grad(), patch.object(frozen_products, "onednn_is_faster", lambda: False):
        with Operators() as ours:
            found = seen(pixel_values=pixels).last_hidden_state
        with plain_layers(), Operators() as theirs:
            expected = seen(pixel_values=pixels).last_hidden_state
    assert torch.equal(found, expected)
    assert all(ours.normed_in_order)
    assert not all(theirs.normed_in_order), "transformers lays patches out in order now: this is not needed any more"


@pytest.mark.parametrize("name", TINY)
def test_only_a_first_block_asks_for_order(name: str, folders: dict[str, Path]) -> None:
    module = cases.module(folders[name])
    assert module.family is not None
    ordered = [path for path, part in module.base.named_modules() if isinstance(part, InOrder)]
    assert len(ordered) == bool(module.family.vision_tower)
    assert all(path.endswith(".0") for path in ordered)


@pytest.mark.usefixtures("faster_here")
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu_is_computed_within_the_product(approximate: str, folders: dict[str, Path]) -> None:
    _, seen, pixels = tower("smolvlm", folders)
    blocks = [part for part in seen.modules() if isinstance(part, JoinedGelu)]
    assert blocks
    for block in blocks:
        block.activation_fn = Gelu(approximate)
    with torch.no_grad():
        with Operators() as ours:
            found = seen(pixel_values=pixels).last_hidden_state
        with patch.object(tower_element_wise, "_approximation", lambda _: None), Operators() as theirs:
            expected = seen(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert "aten.gelu.default" not in ours.seen
    assert ours.seen.count("mkldnn._linear_pointwise.default gelu") == len(blocks)
    assert theirs.seen.count("aten.gelu.default") == len(blocks)


class Gelu(nn.Module):
    """GELU as transformers' modules hold it."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.act = ACT2FN["gelu_pytorch_tanh" if approximate == "tanh" else "gelu"].act

    def forward(self, x: Tensor) -> Tensor:
        """GELU of x."""
        out: Tensor = self.act(x)
        return out


@pytest.mark.usefixtures("faster_here")
@pytest.mark.parametrize("training", ["full", "lora"])
def test_a_trained_tower_keeps_its_gelu(training: str, folders: dict[str, Path]) -> None:
    module, _, _ = tower("smolvlm", folders, training)
    module.train()
    batch = cases.encode(cases.encoder(folders["smolvlm"]), [cases.conversation(1, 1)])
    with Operators() as operators:
        found = cases.gradients(module, batch)
    assert "mkldnn._linear_pointwise.default gelu" not in operators.seen
    with plain_layers():
        expected = cases.gradients(module, batch)
    # The bias of keys has a gradient of rounding errors alone.
    largest = max(float(grad.abs().max()) for grad in expected.values() if grad is not None)
    for name, grad in expected.items():
        other = found[name]
        if grad is not None and other is not None:
            torch.testing.assert_close(other, grad, rtol=1e-5, atol=1e-6 * largest, msg=name)


@pytest.mark.usefixtures("faster_here")
def test_a_frozen_block_whose_input_is_trained_keeps_its_gelu(folders: dict[str, Path]) -> None:
    """As where LoRA is on the tower's attention alone."""
    _, seen, _ = tower("smolvlm", folders)
    block = next(part for part in seen.modules() if isinstance(part, JoinedGelu))
    x = torch.randn(2, 5, seen.config.hidden_size, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (found,) = torch.autograd.grad(block(x).sum(), x)
    with plain_layers():
        (expected,) = torch.autograd.grad(block(x).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("faster_here")
def test_another_activation_is_left_alone(tiny_llava: Path) -> None:
    """CLIP's own is x sigmoid(1.702 x)."""
    module = cases.module(tiny_llava)
    blocks = [part for part in module.base.modules() if isinstance(part, JoinedGelu)]
    assert blocks
    assert {tower_element_wise._approximation(block.get_submodule("activation_fn")) for block in blocks} == {None}


def test_another_feed_forward_block_is_left_alone() -> None:
    class Other(nn.Module):
        def forward(self, hidden_states: Tensor) -> Tensor:
            """Another block."""
            return hidden_states + 1

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Other(), Other()])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = Blocks()

    model = Model()
    order_tower(model, replace(FAMILIES["smolvlm"], vision_tower=("tower",)))
    assert [isinstance(block, InOrder) for block in model.tower.layers] == [True, False]
    assert not any(isinstance(block, JoinedGelu) for block in model.modules())
