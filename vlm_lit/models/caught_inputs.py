"""Inputs of some of a model's modules, caught while the model's own code runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def caught_inputs(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What is passed to each of `modules` in the meantime, [..., D]."""
    found: dict[nn.Module, Tensor] = {}

    def catch(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        found[module] = arguments[0]

    hooks = [module.register_forward_pre_hook(catch) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
