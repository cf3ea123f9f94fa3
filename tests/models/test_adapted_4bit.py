"""Tests of the 4-bit layer with its LoRA update in one function: PEFT's numbers, and PEFT's own way for all else."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from peft.tuners.lora.bnb import Linear4bit
from torch import Tensor

from tests.support import family_cases as cases
from tests.support.family_cases import TINY, TinyFamily
from vlm_lit.models.adapted_4bit import Adapted4bit
from vlm_lit.training.supervised import SupervisedModule

EVERY = pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)


def compared(module: SupervisedModule, folder: Path) -> tuple[dict[str, Tensor | None], dict[str, Tensor | None]]:
    """The gradients by the short way, which must have been taken, and by PEFT's."""
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    with patch.object(Linear4bit, "forward", None):
        short = cases.gradients(module, batch)
    with patch.object(Adapted4bit, "_only_adapter", lambda *_: None):
        return short, cases.gradients(module, batch)


@EVERY
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_short_way_gives_the_gradients_that_peft_gives(
    tiny: TinyFamily, checkpointing: bool, folders: dict[str, Path]
) -> None:
    module = cases.module(folders[tiny.name], checkpointing=checkpointing)
    module.train()
    short, theirs = compared(module, folders[tiny.name])
    assert short.keys() == theirs.keys()
    for name, grad in theirs.items():
        other = short[name]
        assert (grad is None) == (other is None), name
        if grad is not None and other is not None:
            # float32 sums over hundreds of terms, taken in another order.
            torch.testing.assert_close(other, grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()), msg=name)


@pytest.mark.parametrize("case", ["adapters off", "dropout", "autocast", "merged"])
def test_all_else_is_left_to_peft(case: str, tiny_llava: Path) -> None:
    module = cases.module(tiny_llava)
    module.train()
    assert module.model is not None
    layer = next(m for m in module.model.modules() if isinstance(m, Adapted4bit))
    x = torch.randn(3, layer.in_features)
    if case == "adapters off":
        module.model.base_model.disable_adapter_layers()
    if case == "dropout":
        layer.lora_dropout["default"] = torch.nn.Dropout(0.5)
    if case == "merged":
        with pytest.warns(UserWarning, match="Merge lora module"):
            layer.merge()
    with patch("vlm_lit.models.adapted_4bit._Adapted", None), torch.autocast("cpu", enabled=case == "autocast"):
        torch.manual_seed(0)
        found = layer(x)
        torch.manual_seed(0)
        assert torch.equal(found, Linear4bit.forward(layer, x))
    if case == "dropout":
        module.eval()
        with patch.object(Linear4bit, "forward", None):  # none is drawn in an evaluation
            layer(x)
