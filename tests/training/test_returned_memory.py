"""Test that freed memory is given back behind a validation and every hundred steps, that of circles now and then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vlm_lit.cli import main
from vlm_lit.training.callbacks.returned_memory import ReturnedMemory

_PIECES = 60_000


def resident() -> int:
    """Bytes of the process's own memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def scattered(given: list[int], method: Callable[..., None]) -> Callable[..., None]:
    """The method behind pieces of memory that were freed between others; notes what it gives back."""

    def called(*arguments: object) -> None:
        pieces = [torch.ones(1024) for _ in range(_PIECES)]
        circle: list[object] = [pieces[:-1]]  # Python alone would not look for it for a long time
        circle.append(circle)
        last = pieces[-1]
        del circle, pieces
        before = resident()
        method(*arguments)
        given.append(before - resident())
        del last

    return called


@pytest.mark.parametrize(("every", "apart"), [(1, 0.0), (100, 0.0), (1, 1000.0)])
def test_freed_memory_is_given_back(
    every: int, apart: float, config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, list[int]] = {"on_train_batch_end": [], "on_validation_end": []}
    monkeypatch.setattr("vlm_lit.training.callbacks.returned_memory._EVERY", every)
    monkeypatch.setattr("vlm_lit.training.callbacks.returned_memory._APART", apart)
    for name, found in given.items():
        monkeypatch.setattr(ReturnedMemory, name, scattered(found, getattr(ReturnedMemory, name)))
    assert main(["fit", "--config", str(config(trainer={"num_sanity_val_steps": 0}))]) == 0
    large = _PIECES * 1024 * 4 * 0.5
    assert len(given["on_train_batch_end"]) == 3
    assert all((amount > large) is (every == 1 and apart == 0) for amount in given["on_train_batch_end"])
    assert given["on_validation_end"]
    # By the fourth circle Python looks for them itself.
    assert apart > 0 or all(amount > large for amount in given["on_validation_end"])
