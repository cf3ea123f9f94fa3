"""Tests of products with frozen weights by oneDNN: MKL's numbers, where they stay MKL's, what they keep in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support import family_cases as cases
from tests.support.family_cases import TINY, TinyFamily
from vlm_lit.models import frozen_products
from vlm_lit.models.frozen_products import multiply_frozen
from vlm_lit.models.plain_layers import plain_layers


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts oneDNN's products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.products += func is torch.ops.mkldnn._linear_pointwise.default
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def faster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this processor for one on which oneDNN is faster: its numbers are the same on all."""
    monkeypatch.setattr(frozen_products, "onednn_is_faster", lambda: True)
    for name in frozen_products._CACHES:
        monkeypatch.setenv(name, "64")


@pytest.fixture
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take small weights and single tokens too, as those of tiny models are."""
    monkeypatch.setattr(frozen_products, "FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(frozen_products, "FEWEST_TOKENS", 1)


@pytest.mark.usefixtures("however_small")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)
def test_gradients_of_every_family(tiny: TinyFamily, checkpointing: bool, folders: dict[str, Path]) -> None:
    module = cases.module(folders[tiny.name], checkpointing=checkpointing)
    module.train()
    batch = cases.encode(cases.encoder(folders[tiny.name]), [cases.conversation(1, 1)])
    with Counted() as counted:
        found = cases.gradients(module, batch)
    assert counted.products > 10
    with patch.object(frozen_products, "_suits", lambda *_: False), Counted() as counted:
        expected = cases.gradients(module, batch)
    assert counted.products == 0
    for name, grad in expected.items():
        other = found[name]
        assert (grad is None) == (other is None), name
        if grad is not None and other is not None:
            # float32 sums over hundreds of terms, taken in another order.
            torch.testing.assert_close(other, grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()), msg=name)


def layer(kind: str, width: int = 512) -> nn.Module:
    torch.manual_seed(0)
    dense = nn.Linear(width, 2 * width).requires_grad_(False)
    model = nn.ModuleList([dense])
    if kind == "4-bit":
        packed = bnb.nn.Linear4bit(width, 2 * width, compute_dtype=torch.float32, quant_type="nf4")
        packed.load_state_dict(dense.state_dict())
        packed.support_avx512bf16_for_cpu = False
        model = nn.ModuleList([packed.to("cpu").requires_grad_(False)])
    multiply_frozen(model)
    return model[0]


def outcome(module: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """The outputs of a layer, with the inputs' gradient where it has one, and how many products oneDNN took."""
    with Counted() as counted:
        out = module(x)
        yield out.detach()
        if x.requires_grad:
            yield from torch.autograd.grad(out, x, torch.linspace(-1, 2, out.numel()).view_as(out))
    yield torch.tensor(counted.products)


@pytest.mark.parametrize("kind", ["dense", "4-bit"])
@pytest.mark.parametrize("shape", [(4, 512), (2, 7, 512)])
def test_a_layer(kind: str, shape: tuple[int, ...]) -> None:
    module, x = layer(kind), torch.randn(*shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    out, grad, products = outcome(module, x)
    assert products == 2
    with plain_layers():
        plain, expected, none = outcome(module, x)
    assert none == 0
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(module(x), out)


def test_many_tokens_take_small_weights_too() -> None:
    module = layer("dense", 16)
    many = frozen_products.MANY_TOKENS
    *_, few = outcome(module, torch.randn(many - 1, 16, requires_grad=True))
    out, grad, products = outcome(module, x := torch.randn(many, 16, requires_grad=True))
    assert few == 0
    assert products == 2
    with plain_layers():
        plain, expected, _ = outcome(module, x)
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-5)


_CASES = ["few tokens", "none", "small weight", "trained bias", "bfloat16", "autocast", "switched off", "elsewhere"]


@pytest.mark.parametrize(
    ("kind", "case"), [("dense", "trained"), *((kind, case) for kind in ("dense", "4-bit") for case in _CASES)]
)
def test_all_else_is_left_to_mkl(kind: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "elsewhere":
        monkeypatch.setattr(frozen_products, "onednn_is_faster", lambda: False)
    module: Any = layer(kind, 128 if case == "small weight" else 512)
    x = torch.randn({"few tokens": 3, "none": 0}.get(case, 9), 128 if case == "small weight" else 512)
    if case == "trained":
        module.weight.requires_grad_(True)
    if case == "trained bias":
        module.bias.requires_grad_(True)
    if case == "bfloat16":
        x = x.bfloat16()
        module = module.bfloat16() if kind == "dense" else module
    if case == "switched off":
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with torch.autocast("cpu") if case == "autocast" else nullcontext():
        *_, products = outcome(module, x)
    assert products == 0
    if kind == "dense":
        assert type(module).__name__ == "Linear"


def test_rows_of_many_lengths_leave_little_in_memory(tmp_path: Path) -> None:
    """oneDNN, and torch's layer over it, keep what they prepare for each of a thousand shapes unless told otherwise."""
    script = tmp_path / "lengths.py"
    script.write_text(_LENGTHS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60, "megabytes"


_LENGTHS = """
import ctypes, os, re
from pathlib import Path
import torch
from torch import nn
from vlm_lit.models import frozen_products
frozen_products.onednn_is_faster = lambda: True
for name in frozen_products._CACHES:
    os.environ.pop(name, None)
model = nn.ModuleList([nn.Linear(512, 512).requires_grad_(False)])
frozen_products.multiply_frozen(model)
def resident():
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
x = torch.randn(900, 512)
with torch.no_grad():
    for length in range(300, 310):
        model[0](x[:length])
    before = resident()
    for length in range(310, 900):
        model[0](x[:length])
print(resident() - before)
"""
