"""A frozen vision tower that is run once for two passes over the same batch, the second of another model's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings


class SharedTower:
    """What a tower says in a first pass, said again in a second.

    A tower that is frozen says the same both times, to the bit. It is left alone where it trains, and where the
    projector lies inside it, as in Qwen: that one may differ between the two passes.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        parts: what of it trains.
    """

    def __init__(self, base: nn.Module, family: Family, parts: PartsSettings) -> None:
        inside = any(root.startswith(f"{tower}.") for root in family.projector for tower in family.vision_tower)
        shared = parts.vision_tower.training == "frozen" and not inside
        modules = dict(base.named_modules())
        self._towers = [modules[root] for root in family.vision_tower if root in modules] if shared else []
        self._said: dict[nn.Module, list[Any]] = {}

    @contextmanager
    def first(self) -> Iterator[None]:
        """A pass whose towers' outputs are kept."""
        self._said = {tower: [] for tower in self._towers}
        with ExitStack() as stack:
            for tower in self._towers:
                stack.enter_context(_kept(tower, self._said[tower]))
            yield

    @contextmanager
    def second(self) -> Iterator[None]:
        """A pass over the same batch, which gets them; they are forgotten then. Without a first, a pass like any."""
        try:
            with ExitStack() as stack:
                for tower, said in self._said.items():
                    stack.enter_context(_again(tower, said))
                yield
        finally:
            self._said = {}


@contextmanager
def _kept(tower: nn.Module, said: list[Any]) -> Iterator[None]:
    hook = tower.register_forward_hook(lambda _module, _inputs, output: said.append(output))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _again(tower: nn.Module, said: list[Any]) -> Iterator[None]:
    """The tower's forward pass takes the outputs in their order, in place of computing them."""
    left = iter(said)
    tower.forward = lambda *_arguments, **_named: next(left)
    try:
        yield
    finally:
        del tower.forward
